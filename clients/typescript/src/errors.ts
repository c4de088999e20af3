import { Code, ConnectError } from "@connectrpc/connect";
import { durationMs } from "@bufbuild/protobuf/wkt";

import { ErrorInfoSchema, RetryInfoSchema } from "./gen/google/rpc/error_details_pb.js";
import { ErrorReason, type Job } from "./gen/virtrpc/v1/types_pb.js";

const ERROR_DOMAIN = "virtrpc";

/** What the contract calls a failure: docs/errors.md says of each what it means and what to do. */
export type Reason = Exclude<keyof typeof ErrorReason, "UNSPECIFIED">;

/** The family of reasons that an error belongs to, by the names that every virtrpc client uses. */
export type Kind =
  | "Aborted"
  | "AgentUnresponsive"
  | "AlreadyExists"
  | "AmbiguousName"
  | "AuditUnavailable"
  | "Busy"
  | "Cancelled"
  | "DeadlineExceeded"
  | "FailedPrecondition"
  | "HostReadOnly"
  | "HostUnreachable"
  | "HypervisorDenied"
  | "Internal"
  | "Interrupted"
  | "InvalidArgument"
  | "JobNotFound"
  | "JournalUnavailable"
  | "LimitExceeded"
  | "MigrationUnsafe"
  | "MonitorUnresponsive"
  | "NotFound"
  | "NotReady"
  | "OperationFailed"
  | "OutcomeUnknown"
  | "PermissionDenied"
  | "Preempted"
  | "ResourceLacking"
  | "RunTimeout"
  | "ServerUnavailable"
  | "Unauthenticated"
  | "Unimplemented"
  | "Unsupported"
  | "WaitTimeout"
  | "WrongState";

const KIND_OF_REASON: Readonly<Record<Reason, Kind>> = {
  INVALID_ARGUMENT: "InvalidArgument",
  XML_INVALID: "InvalidArgument",
  XML_TOO_LARGE: "InvalidArgument",
  PAGE_TOKEN_INVALID: "InvalidArgument",
  RESUME_TOKEN_INVALID: "InvalidArgument",
  PATH_NOT_ALLOWED: "InvalidArgument",
  MIGRATION_TARGET_NOT_ALLOWED: "InvalidArgument",
  REQUEST_ID_REUSED: "InvalidArgument",
  HOST_NOT_CONFIGURED: "NotFound",
  DOMAIN_NOT_FOUND: "NotFound",
  SNAPSHOT_NOT_FOUND: "NotFound",
  CHECKPOINT_NOT_FOUND: "NotFound",
  DEVICE_NOT_FOUND: "NotFound",
  JOB_NOT_FOUND: "JobNotFound",
  METADATA_NOT_FOUND: "NotFound",
  ALREADY_EXISTS: "AlreadyExists",
  HOST_UNREACHABLE: "HostUnreachable",
  HOST_READ_ONLY: "HostReadOnly",
  AGENT_UNRESPONSIVE: "AgentUnresponsive",
  UNSUPPORTED_BY_HYPERVISOR: "Unsupported",
  AMBIGUOUS_NAME: "AmbiguousName",
  WRONG_STATE: "WrongState",
  MONITOR_UNRESPONSIVE: "MonitorUnresponsive",
  OPERATION_FAILED: "OperationFailed",
  MIGRATION_UNSAFE: "MigrationUnsafe",
  RESOURCE_LACKING: "ResourceLacking",
  NOT_READY: "NotReady",
  JOURNAL_UNAVAILABLE: "JournalUnavailable",
  WAIT_TIMEOUT: "WaitTimeout",
  BUSY: "Busy",
  CANCELLED: "Cancelled",
  RUN_TIMEOUT: "RunTimeout",
  PREEMPTED: "Preempted",
  DAEMON_BUDGET_FULL: "Busy",
  INTERRUPTED: "Interrupted",
  OUTCOME_UNKNOWN: "OutcomeUnknown",
  UNAUTHENTICATED: "Unauthenticated",
  PERMISSION_DENIED: "PermissionDenied",
  HYPERVISOR_PERMISSION_DENIED: "HypervisorDenied",
  HYPERVISOR_UNAUTHENTICATED: "HypervisorDenied",
  RATE_LIMITED: "LimitExceeded",
  TOO_MANY_STREAMS: "LimitExceeded",
  TOO_MANY_JOBS: "LimitExceeded",
  AUDIT_UNAVAILABLE: "AuditUnavailable",
  DRAINING: "ServerUnavailable",
  INTERNAL: "Internal",
  UNIMPLEMENTED: "Unimplemented",
};

/** The kind that a kind is one of. */
const WIDER: Readonly<Partial<Record<Kind, Kind>>> = {
  JobNotFound: "NotFound",
  HostUnreachable: "FailedPrecondition",
  HostReadOnly: "FailedPrecondition",
  AgentUnresponsive: "FailedPrecondition",
  Unsupported: "FailedPrecondition",
  AmbiguousName: "FailedPrecondition",
  WrongState: "FailedPrecondition",
  MonitorUnresponsive: "FailedPrecondition",
  OperationFailed: "FailedPrecondition",
  MigrationUnsafe: "OperationFailed",
  ResourceLacking: "OperationFailed",
  NotReady: "FailedPrecondition",
  JournalUnavailable: "FailedPrecondition",
  AuditUnavailable: "FailedPrecondition",
  Busy: "Aborted",
  WaitTimeout: "Busy",
  Cancelled: "Aborted",
  RunTimeout: "Aborted",
  Preempted: "Aborted",
  Interrupted: "OutcomeUnknown",
};

// For reasons of a newer server, and for statuses that proxies and gRPC itself make.
const KIND_OF_CODE: Readonly<Partial<Record<Code, Kind>>> = {
  [Code.InvalidArgument]: "InvalidArgument",
  [Code.OutOfRange]: "InvalidArgument",
  [Code.NotFound]: "NotFound",
  [Code.AlreadyExists]: "AlreadyExists",
  [Code.FailedPrecondition]: "FailedPrecondition",
  [Code.Aborted]: "Aborted",
  [Code.Unauthenticated]: "Unauthenticated",
  [Code.PermissionDenied]: "PermissionDenied",
  [Code.ResourceExhausted]: "LimitExceeded",
  [Code.Unavailable]: "ServerUnavailable",
  // Ours are never seen as a status: this is a proxy or a server that cut the call.
  [Code.Canceled]: "ServerUnavailable",
  [Code.DeadlineExceeded]: "DeadlineExceeded",
  [Code.Unimplemented]: "Unimplemented",
};

/** What an error carries beside its message. */
export interface ErrorFacts {
  reason?: string;
  metadata?: Readonly<Record<string, string>>;
  retryDelay?: number | undefined;
  job?: Job | undefined;
  cause?: unknown;
}

/**
 * What a call or a job failed with.
 *
 * Everything that this package throws is one of these, but for two: the `reason` of an AbortSignal of yours, thrown as it is, and a TypeError for
 * an address or an argument that is none.
 */
export class VirtrpcError extends Error {
  override readonly name = "VirtrpcError";
  /** The gRPC status. */
  readonly code: Code;
  /** A {@link Reason}, or one of a newer server; empty where no virtrpc server said it, such as a broken connection. */
  readonly reason: Reason | (string & {});
  /** The family that `reason` (or, without one, `code`) belongs to. */
  readonly kind: Kind;
  /** The pairs that the contract names at the reason, such as `state` or `holder_job_id`. */
  readonly metadata: Readonly<Record<string, string>>;
  /** The milliseconds that the server asks to be left alone before a retry; undefined where it did not say. */
  readonly retryDelay: number | undefined;
  /** The job as last seen, where a job failed. */
  readonly job: Job | undefined;

  constructor(code: Code, message: string, facts: ErrorFacts = {}) {
    super([message, facts.reason, Code[code]].find(Boolean), { cause: facts.cause });
    this.code = code;
    this.reason = facts.reason ?? "";
    this.kind = kindOf(code, this.reason);
    this.metadata = facts.metadata ?? {};
    this.retryDelay = facts.retryDelay;
    this.job = facts.job;
  }

  /** It is of this kind, or of a narrower one: a WaitTimeout is Busy, and Aborted too. */
  is(kind: Kind): boolean {
    for (let own: Kind | undefined = this.kind; own !== undefined; own = WIDER[own]) {
      if (own === kind) {
        return true;
      }
    }
    return false;
  }

  /** The same with the job that it is about. */
  of(job: Job | undefined): VirtrpcError {
    const { reason, metadata, retryDelay, cause } = this;
    return new VirtrpcError(this.code, this.message, { reason, metadata, retryDelay, cause, job });
  }
}

/** The error for an RPC that Connect ended with `error`, with what its ErrorInfo and RetryInfo say. */
export function fromConnect(error: unknown): VirtrpcError {
  const status = ConnectError.from(error);
  const info = status.findDetails(ErrorInfoSchema).find((found) => found.domain === ERROR_DOMAIN);
  const delay = status.findDetails(RetryInfoSchema).find((found) => found.retryDelay !== undefined)?.retryDelay;
  const code = isBroken(status) ? Code.Unavailable : status.code;
  return new VirtrpcError(code, status.rawMessage.trim(), {
    reason: info?.reason ?? "",
    metadata: info?.metadata ?? {},
    retryDelay: delay && durationMs(delay),
    cause: error,
  });
}

/** The error for a job that ended otherwise than SUCCEEDED. */
export function fromJob(job: Job): VirtrpcError {
  const { code = Code.Unknown, message = "", reason = "", metadata = {} } = job.error ?? {};
  return new VirtrpcError(isCode(code) ? code : Code.Unknown, message, { reason, metadata, job });
}

/** It was no answer of a server, or one that sends us elsewhere. */
export function wasCut(error: VirtrpcError): boolean {
  const cut = [Code.Unavailable, Code.Canceled, Code.Internal, Code.Unknown];
  return cut.includes(error.code) && (error.reason === "" || error.reason === "DRAINING");
}

/** A retry will do: it was cut, or the server says when to come again. */
export function isPassing(error: VirtrpcError): boolean {
  return wasCut(error) || error.retryDelay !== undefined;
}

function isCode(code: number): code is Code {
  return code in Code;
}

function kindOf(code: Code, reason: string): Kind {
  if (reason in KIND_OF_REASON) {
    return KIND_OF_REASON[reason as Reason];
  }
  // A newer server's reason; without one UNKNOWN is some handler's crash.
  return reason && code === Code.Unknown ? "OutcomeUnknown" : (KIND_OF_CODE[code] ?? "Internal");
}

// Connect has statuses of its own for what happens to a connection (ABORTED for a reset, INTERNAL for a refused certificate): to gRPC all are UNAVAILABLE.
function isBroken(status: ConnectError): boolean {
  const { cause } = status;
  if (cause === undefined || status.code === Code.DeadlineExceeded || status.metadata.has("grpc-status")) {
    return false;
  }
  // What fetch says of a network error; what Node says of a socket; what gRPC-Web says of a body that ends too early.
  return cause instanceof TypeError || cause === "missing trailer" || (cause instanceof Error && "code" in cause && typeof cause.code === "string");
}
