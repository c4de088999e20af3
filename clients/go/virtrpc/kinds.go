package virtrpc

import "google.golang.org/grpc/codes"

// A Kind is a family of reasons: what [errors.Is] compares an [*Error] with.
type Kind struct {
	text string
	of   *Kind
}

// Error says what it means.
func (k *Kind) Error() string { return "virtrpc: " + k.text }

// The kinds. Of what one is of, errors.Is says that it is that as well.
var (
	// ErrInvalidArgument is a request that is wrong, and useless to repeat. Metadata "field" may name the field.
	ErrInvalidArgument = &Kind{text: "the request is wrong"}
	// ErrNotFound is no such host, domain, snapshot, device or job.
	ErrNotFound = &Kind{text: "not found"}
	// ErrJobNotFound is of ErrNotFound: no such job, or one that the server has forgotten. Of one that was accepted: look at the domain.
	ErrJobNotFound = &Kind{text: "no such job", of: ErrNotFound}
	// ErrAlreadyExists is a name that is taken, or is being taken.
	ErrAlreadyExists = &Kind{text: "it exists"}

	// ErrFailedPrecondition is a right request in a world that is not ready for it.
	ErrFailedPrecondition = &Kind{text: "not now"}
	// ErrHostUnreachable is of ErrFailedPrecondition: the hypervisor cannot be reached, or was never listed. Retry later.
	ErrHostUnreachable = &Kind{text: "the hypervisor cannot be reached", of: ErrFailedPrecondition}
	// ErrHostReadOnly is of ErrFailedPrecondition: the host is configured read-only.
	ErrHostReadOnly = &Kind{text: "the host is read-only", of: ErrFailedPrecondition}
	// ErrAgentUnresponsive is of ErrFailedPrecondition: the guest agent is absent or does not answer.
	ErrAgentUnresponsive = &Kind{text: "the guest agent does not answer", of: ErrFailedPrecondition}
	// ErrUnsupported is of ErrFailedPrecondition: the hypervisor lacks the verb, or this form of it.
	ErrUnsupported = &Kind{text: "the hypervisor cannot do it", of: ErrFailedPrecondition}
	// ErrAmbiguousName is of ErrFailedPrecondition: several domains fit; metadata "matches" lists them.
	ErrAmbiguousName = &Kind{text: "several domains fit", of: ErrFailedPrecondition}
	// ErrWrongState is of ErrFailedPrecondition: the domain is not in a state for it; metadata "state".
	ErrWrongState = &Kind{text: "the domain is not in a state for it", of: ErrFailedPrecondition}
	// ErrMonitorUnresponsive is of ErrFailedPrecondition: the hypervisor does not answer for this domain.
	ErrMonitorUnresponsive = &Kind{text: "the hypervisor does not answer for this domain", of: ErrFailedPrecondition}
	// ErrNotReady is of ErrFailedPrecondition: the job is not at a point where this can be done. Watch it, then retry.
	ErrNotReady = &Kind{text: "the job is not ready for it", of: ErrFailedPrecondition}
	// ErrJournalUnavailable is of ErrFailedPrecondition: the server cannot write or read its journal; nothing was begun. Queries are answered.
	ErrJournalUnavailable = &Kind{text: "the server's journal cannot be used", of: ErrFailedPrecondition}
	// ErrAuditUnavailable is of ErrFailedPrecondition: the server cannot write its audit log, and changes nothing without it. Queries are answered.
	ErrAuditUnavailable = &Kind{text: "the server's audit log cannot be written", of: ErrFailedPrecondition}
	// ErrOperationFailed is of ErrFailedPrecondition: the hypervisor tried and failed; the message is its own.
	ErrOperationFailed = &Kind{text: "the hypervisor failed", of: ErrFailedPrecondition}
	// ErrMigrationUnsafe is of ErrOperationFailed: libvirt thinks that the move could damage the guest's disks.
	ErrMigrationUnsafe = &Kind{text: "the move is unsafe", of: ErrOperationFailed}
	// ErrResourceLacking is of ErrOperationFailed: the hypervisor ran out of memory, disk space or devices.
	ErrResourceLacking = &Kind{text: "the hypervisor ran out of something", of: ErrOperationFailed}

	// ErrLimitExceeded is more than the server lets one caller have (metadata "limit"), or a longer message than it takes. Nothing was begun.
	ErrLimitExceeded = &Kind{text: "more than one caller may have"}

	// ErrAborted is stopped before it was done.
	ErrAborted = &Kind{text: "stopped before it was done"}
	// ErrBusy is of ErrAborted: something else is in the way, and nothing was changed. Metadata "holder_job_id" and its neighbours say what.
	ErrBusy = &Kind{text: "something else is in the way", of: ErrAborted}
	// ErrWaitTimeout is of ErrBusy: the job waited for as long as wait_timeout allows.
	ErrWaitTimeout = &Kind{text: "it waited in vain", of: ErrBusy}
	// ErrCancelled is of ErrAborted: the job was cancelled. A context of yours that was cancelled is [context.Canceled] instead.
	ErrCancelled = &Kind{text: "the job was cancelled", of: ErrAborted}
	// ErrRunTimeout is of ErrAborted: the job ran for as long as run_timeout allows, and was stopped.
	ErrRunTimeout = &Kind{text: "it ran for too long", of: ErrAborted}
	// ErrPreempted is of ErrAborted: the domain was destroyed before the job could do its work.
	ErrPreempted = &Kind{text: "the domain was destroyed", of: ErrAborted}

	// ErrOutcomeUnknown is a job of which nobody can say what became; it may still take effect. Look before you repeat it.
	ErrOutcomeUnknown = &Kind{text: "the outcome is unknown"}
	// ErrInterrupted is of ErrOutcomeUnknown: a restart or a crash cut the job off, and nothing proves that it succeeded.
	ErrInterrupted = &Kind{text: "the job was interrupted", of: ErrOutcomeUnknown}

	// ErrUnauthenticated is a caller whom the server does not know.
	ErrUnauthenticated = &Kind{text: "the server does not know who you are"}
	// ErrPermissionDenied is a caller who may not call this, or not for this domain.
	ErrPermissionDenied = &Kind{text: "you may not do this"}
	// ErrHypervisorDenied is a hypervisor that refuses the server's own account; yours is not in question.
	ErrHypervisorDenied = &Kind{text: "the hypervisor refuses the server"}

	// ErrServerUnavailable is a server that cannot be reached or is going down. Retry, there or at another.
	ErrServerUnavailable = &Kind{text: "the server cannot be reached"}
	// ErrDeadlineExceeded is a deadline that passed. A job goes its own way, as its on_disconnect says.
	ErrDeadlineExceeded = &Kind{text: "time is up"}
	// ErrUnimplemented is a server that is older than this client.
	ErrUnimplemented = &Kind{text: "the server cannot do it"}
	// ErrInternal is a fault of the server, or a status that the contract does not know. Metadata "error_id" finds it in the server's log.
	ErrInternal = &Kind{text: "a fault of the server"}
)

var byReason = map[string]*Kind{
	"INVALID_ARGUMENT":             ErrInvalidArgument,
	"XML_INVALID":                  ErrInvalidArgument,
	"XML_TOO_LARGE":                ErrInvalidArgument,
	"PAGE_TOKEN_INVALID":           ErrInvalidArgument,
	"RESUME_TOKEN_INVALID":         ErrInvalidArgument,
	"PATH_NOT_ALLOWED":             ErrInvalidArgument,
	"MIGRATION_TARGET_NOT_ALLOWED": ErrInvalidArgument,
	"REQUEST_ID_REUSED":            ErrInvalidArgument,
	"HOST_NOT_CONFIGURED":          ErrNotFound,
	"DOMAIN_NOT_FOUND":             ErrNotFound,
	"SNAPSHOT_NOT_FOUND":           ErrNotFound,
	"CHECKPOINT_NOT_FOUND":         ErrNotFound,
	"DEVICE_NOT_FOUND":             ErrNotFound,
	"METADATA_NOT_FOUND":           ErrNotFound,
	"JOB_NOT_FOUND":                ErrJobNotFound,
	"ALREADY_EXISTS":               ErrAlreadyExists,
	"HOST_UNREACHABLE":             ErrHostUnreachable,
	"HOST_READ_ONLY":               ErrHostReadOnly,
	"AGENT_UNRESPONSIVE":           ErrAgentUnresponsive,
	"UNSUPPORTED_BY_HYPERVISOR":    ErrUnsupported,
	"AMBIGUOUS_NAME":               ErrAmbiguousName,
	"WRONG_STATE":                  ErrWrongState,
	"MONITOR_UNRESPONSIVE":         ErrMonitorUnresponsive,
	"OPERATION_FAILED":             ErrOperationFailed,
	"MIGRATION_UNSAFE":             ErrMigrationUnsafe,
	"RESOURCE_LACKING":             ErrResourceLacking,
	"NOT_READY":                    ErrNotReady,
	"JOURNAL_UNAVAILABLE":          ErrJournalUnavailable,
	"AUDIT_UNAVAILABLE":            ErrAuditUnavailable,
	"RATE_LIMITED":                 ErrLimitExceeded,
	"TOO_MANY_STREAMS":             ErrLimitExceeded,
	"TOO_MANY_JOBS":                ErrLimitExceeded,
	"WAIT_TIMEOUT":                 ErrWaitTimeout,
	"BUSY":                         ErrBusy,
	"CANCELLED":                    ErrCancelled,
	"RUN_TIMEOUT":                  ErrRunTimeout,
	"PREEMPTED":                    ErrPreempted,
	"DAEMON_BUDGET_FULL":           ErrBusy,
	"INTERRUPTED":                  ErrInterrupted,
	"OUTCOME_UNKNOWN":              ErrOutcomeUnknown,
	"UNAUTHENTICATED":              ErrUnauthenticated,
	"PERMISSION_DENIED":            ErrPermissionDenied,
	"HYPERVISOR_PERMISSION_DENIED": ErrHypervisorDenied,
	"HYPERVISOR_UNAUTHENTICATED":   ErrHypervisorDenied,
	"DRAINING":                     ErrServerUnavailable,
	"INTERNAL":                     ErrInternal,
	"UNIMPLEMENTED":                ErrUnimplemented,
}

// For reasons of a newer server, and for statuses that proxies and gRPC itself make.
var byCode = map[codes.Code]*Kind{
	codes.InvalidArgument:    ErrInvalidArgument,
	codes.OutOfRange:         ErrInvalidArgument,
	codes.NotFound:           ErrNotFound,
	codes.AlreadyExists:      ErrAlreadyExists,
	codes.FailedPrecondition: ErrFailedPrecondition,
	codes.ResourceExhausted:  ErrLimitExceeded,
	codes.Aborted:            ErrAborted,
	codes.Unauthenticated:    ErrUnauthenticated,
	codes.PermissionDenied:   ErrPermissionDenied,
	codes.Unavailable:        ErrServerUnavailable,
	codes.DeadlineExceeded:   ErrDeadlineExceeded,
	codes.Unimplemented:      ErrUnimplemented,
}

// Kind is the narrowest kind of the error: that of its reason, else that of its code. It is nil where a context of the caller's was cancelled.
func (e *Error) Kind() *Kind {
	if kind, known := byReason[e.Reason]; known {
		return kind
	}
	if kind, known := byCode[e.Code]; known {
		return kind
	}
	switch {
	case e.Code == codes.Canceled && e.cause != nil:
		return nil
	case e.Code == codes.Canceled:
		return ErrServerUnavailable // a proxy or a server that cut the call
	case e.Code == codes.Unknown && e.Reason != "":
		return ErrOutcomeUnknown // a newer server's reason; without one it is some handler's crash
	default:
		return ErrInternal
	}
}
