/** The contract's messages, enums and services, as protoc-gen-es writes them. */
export * from "./gen/virtrpc/v1/devices_pb.js";
export * from "./gen/virtrpc/v1/job_pb.js";
export * from "./gen/virtrpc/v1/query_pb.js";
export * from "./gen/virtrpc/v1/resources_pb.js";
export * from "./gen/virtrpc/v1/snapshot_pb.js";
export * from "./gen/virtrpc/v1/spec_pb.js";
export * from "./gen/virtrpc/v1/types_pb.js";
