"""The server: gRPC services on one event loop. Code between two awaits holds the domain lock; an await drops it. No libvirt here.

Where what lives, from the outside in; a test holds that every module is named here once:

- the process: main, commands, exits, settings, serving, app, core, notify, lag, doctor, admin
- the wire: transport, unix_socket, tls, stamps, health, guard, errors, contract, messages, paging, opaque, serialised, slices, heartbeats
- who calls, and what they may: caller, identity, certificates, forwarded, tokens, keys, limits, policy, audit, audit_file
- the services, called as their .proto files: query, job, snapshot
- what they read: lookup, devices, metadata, xml_forms, job_filter, watching, following, slow, host_files, checkpoints, snapshot_filter, planning
- how a request becomes a job: acceptance, fingerprints, orders, specs, snapshot_xml, migration, destinations
- jobs: jobs, records, verbs, listening, history, waiting, slots, places, budgets, steering, tuning, sending
- the life of one: running, calls, starting, reporting, progress, samples, schedule, convergence, judging, endings, telling
- what outlives the server: store, journal, journal_file, beginning, recovery
- hosts and the cache: hosts, domains, order, feed, news, refresh, due, rereading, sampling, host_sampling, suspicion, probing
- what is told of all that: telemetry, tracing, printable
"""
