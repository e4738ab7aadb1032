"""The OCI runtime specification's `config.json` as typed, plain dicts. Knows its shape; decides nothing.

Others write such documents too, so a spec is never taken apart and put together again: it is the JSON object itself,
and members this module does not name survive. Names, units and optional members are those of the OCI runtime
specification 1.3. Sections of other operating systems than Linux stay opaque.
"""

from __future__ import annotations

from typing import Literal, NotRequired, Required, TypeAlias, TypedDict

Opaque: TypeAlias = dict[str, object]
NamespaceType: TypeAlias = Literal["pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time"]
HookPoint: TypeAlias = Literal[
    "prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"
]


class Box(TypedDict):
    """Size of a console, in characters."""

    height: int
    width: int


class User(TypedDict, total=False):
    """Who the process runs as."""

    uid: Required[int]
    gid: Required[int]
    umask: int
    additionalGids: list[int]
    username: str  # Windows


class Capabilities(TypedDict, total=False):
    """The five capability sets of a process, see capabilities(7)."""

    bounding: list[str]
    effective: list[str]
    inheritable: list[str]
    permitted: list[str]
    ambient: list[str]


class Rlimit(TypedDict):
    """One resource limit, see getrlimit(2)."""

    type: str
    hard: int
    soft: int


class Scheduler(TypedDict, total=False):
    """Scheduling attributes, see sched_setattr(2)."""

    policy: Required[str]
    nice: int
    priority: int
    flags: list[str]
    runtime: int
    deadline: int
    period: int


# Written as a call because "class" is no Python identifier; see ioprio_set(2).
IOPriority = TypedDict("IOPriority", {"class": str, "priority": int})
IOPriority.__doc__ = "I/O scheduling class and priority of a process."


class CPUAffinity(TypedDict, total=False):
    """CPUs an exec process may run on, before and after it has joined the container's cgroup."""

    initial: str
    final: str


class Process(TypedDict, total=False):
    """A container's first process."""

    cwd: Required[str]
    user: Required[User]
    args: list[str]
    env: list[str]
    terminal: bool
    consoleSize: Box
    capabilities: Capabilities
    rlimits: list[Rlimit]
    noNewPrivileges: bool
    apparmorProfile: str
    selinuxLabel: str
    oomScoreAdj: int
    scheduler: Scheduler
    ioPriority: IOPriority
    execCPUAffinity: CPUAffinity
    commandLine: str  # Windows


class Root(TypedDict):
    """The container's root file system."""

    path: str
    readonly: NotRequired[bool]


class IDMapping(TypedDict):
    """A range of user or group IDs and what it is on the host."""

    containerID: int
    hostID: int
    size: int


class Mount(TypedDict, total=False):
    """A mount inside the container."""

    destination: Required[str]
    type: str
    source: str
    options: list[str]
    uidMappings: list[IDMapping]
    gidMappings: list[IDMapping]


class Hook(TypedDict, total=False):
    """A program the runtime starts at some point of a container's life; `timeout` is in seconds."""

    path: Required[str]
    args: list[str]
    env: list[str]
    timeout: int


class Hooks(TypedDict, total=False):
    """Hooks by the point at which they run."""

    prestart: list[Hook]
    createRuntime: list[Hook]
    createContainer: list[Hook]
    startContainer: list[Hook]
    poststart: list[Hook]
    poststop: list[Hook]


class Namespace(TypedDict):
    """A namespace to create, or to join where a path is given."""

    type: NamespaceType
    path: NotRequired[str]


class Device(TypedDict, total=False):
    """A device node to create; `fileMode` holds the permission bits."""

    path: Required[str]
    type: Required[str]
    major: Required[int]
    minor: Required[int]
    fileMode: int
    uid: int
    gid: int


class DeviceRule(TypedDict, total=False):
    """A rule of the device cgroup; later rules win."""

    allow: Required[bool]
    type: str
    major: int
    minor: int
    access: str


class Memory(TypedDict, total=False):
    """Memory limits, in bytes; -1 is unlimited."""

    limit: int
    reservation: int
    swap: int
    kernel: int
    kernelTCP: int
    swappiness: int
    disableOOMKiller: bool
    useHierarchy: bool
    checkBeforeUpdate: bool


class CPU(TypedDict, total=False):
    """CPU limits; quota, burst and periods in microseconds."""

    shares: int
    quota: int
    burst: int
    period: int
    realtimeRuntime: int
    realtimePeriod: int
    cpus: str
    mems: str
    idle: int


class Pids(TypedDict):
    """How many processes there may be; -1 is unlimited."""

    limit: int


class WeightDevice(TypedDict, total=False):
    """I/O weight of one block device."""

    major: Required[int]
    minor: Required[int]
    weight: int
    leafWeight: int


class ThrottleDevice(TypedDict):
    """I/O rate of one block device, in bytes or operations per second."""

    major: int
    minor: int
    rate: int


class BlockIO(TypedDict, total=False):
    """Block I/O limits."""

    weight: int
    leafWeight: int
    weightDevice: list[WeightDevice]
    throttleReadBpsDevice: list[ThrottleDevice]
    throttleWriteBpsDevice: list[ThrottleDevice]
    throttleReadIOPSDevice: list[ThrottleDevice]
    throttleWriteIOPSDevice: list[ThrottleDevice]


class HugepageLimit(TypedDict):
    """How many bytes of huge pages of one size there may be."""

    pageSize: str
    limit: int


class InterfacePriority(TypedDict):
    """Priority of a network interface's traffic."""

    name: str
    priority: int


class NetworkResources(TypedDict, total=False):
    """Classes and priorities of network traffic (cgroup v1)."""

    classID: int
    priorities: list[InterfacePriority]


class Rdma(TypedDict, total=False):
    """Limits of one RDMA device."""

    hcaHandles: int
    hcaObjects: int


class Resources(TypedDict, total=False):
    """What the container's cgroup limits."""

    devices: list[DeviceRule]
    memory: Memory
    cpu: CPU
    pids: Pids
    blockIO: BlockIO
    hugepageLimits: list[HugepageLimit]
    network: NetworkResources
    rdma: dict[str, Rdma]
    unified: dict[str, str]


class SeccompArg(TypedDict, total=False):
    """A condition on one argument of a system call."""

    index: Required[int]
    value: Required[int]
    valueTwo: int
    op: Required[str]


class Syscall(TypedDict, total=False):
    """What happens on some system calls."""

    names: Required[list[str]]
    action: Required[str]
    errnoRet: int
    args: list[SeccompArg]


class Seccomp(TypedDict, total=False):
    """A system call filter, see seccomp(2)."""

    defaultAction: Required[str]
    defaultErrnoRet: int
    architectures: list[str]
    flags: list[str]
    listenerPath: str
    listenerMetadata: str
    syscalls: list[Syscall]


class IntelRdt(TypedDict, total=False):
    """Cache and memory bandwidth shares (Intel RDT)."""

    closID: str
    schemata: list[str]
    l3CacheSchema: str
    memBwSchema: str
    enableMonitoring: bool
    enableCMT: bool
    enableMBM: bool


class MemoryPolicy(TypedDict, total=False):
    """NUMA memory policy, see set_mempolicy(2)."""

    mode: Required[str]
    nodes: Required[str]
    flags: list[str]


class Personality(TypedDict, total=False):
    """Execution domain, see personality(2)."""

    domain: Required[str]
    flags: list[str]


class TimeOffset(TypedDict, total=False):
    """Offset of a clock in a time namespace."""

    secs: int
    nanosecs: int


class NetDevice(TypedDict, total=False):
    """Name that a host's network device gets in the container."""

    name: str


class Linux(TypedDict, total=False):
    """What only Linux has."""

    uidMappings: list[IDMapping]
    gidMappings: list[IDMapping]
    sysctl: dict[str, str]
    resources: Resources
    cgroupsPath: str
    namespaces: list[Namespace]
    devices: list[Device]
    netDevices: dict[str, NetDevice]
    seccomp: Seccomp
    rootfsPropagation: str
    maskedPaths: list[str]
    readonlyPaths: list[str]
    mountLabel: str
    intelRdt: IntelRdt
    memoryPolicy: MemoryPolicy
    personality: Personality
    timeOffsets: dict[str, TimeOffset]


class Spec(TypedDict, total=False):
    """How a container is made: OCI runtime specification, "Configuration"."""

    ociVersion: Required[str]
    process: Process
    root: Root
    hostname: str
    domainname: str
    mounts: list[Mount]
    hooks: Hooks
    annotations: dict[str, str]
    linux: Linux
    solaris: Opaque
    windows: Opaque
    vm: Opaque
    zos: Opaque
    freebsd: Opaque
