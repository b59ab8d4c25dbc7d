package pod

// Waiting reasons and Event reasons as users of Kubernetes know them.
const (
	reasonCreating     = "ContainerCreating"
	reasonInitializing = "PodInitializing"
	reasonCrashLoop    = "CrashLoopBackOff"
	reasonConfig       = "CreateContainerConfigError"
	reasonCreate       = "CreateContainerError"
	reasonRun          = "RunContainerError"
	reasonPostStart    = "PostStartHookError"
	// reasonKill is ours alone: a stop failed and is tried again; it never shows in a status.
	reasonKill = "KillContainerError"

	eventCreated         = "Created"
	eventStarted         = "Started"
	eventFailed          = "Failed"
	eventKilling         = "Killing"
	eventBackOff         = "BackOff"
	eventUnhealthy       = "Unhealthy"
	eventFailedMount     = "FailedMount"
	eventFailedSandbox   = "FailedCreatePodSandBox"
	eventSandboxChanged  = "SandboxChanged"
	eventFailedPostStart = "FailedPostStartHook"
	eventFailedPreStop   = "FailedPreStopHook"
	eventFailedKill      = "FailedKillPod"
	eventResizeStarted   = "ResizeStarted"
	eventResizeCompleted = "ResizeCompleted"
	eventResizeError     = "ResizeError"
)
