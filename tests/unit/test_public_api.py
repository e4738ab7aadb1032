"""The public surface: the names and call shapes that users' code is written against."""

import ast
import builtins
import copy
import importlib
import importlib.util
import inspect
import pickle
import pkgutil
import signal
import typing
from contextlib import AbstractAsyncContextManager
from datetime import timedelta

import attrs
import pytest

import containerd_py
from containerd_py import Client, Container, Image, Process, Task
from containerd_py._flows.create_container import ContainerOptions
from containerd_py._flows.export_images import ExportOptions
from containerd_py._flows.import_options import ImportOptions, ImportWish
from containerd_py.oci import spec_options
from containerd_py.services import bundle, events
from containerd_py.services.bundle import Services

# One call a line: `await` a coroutine, `lend` an asynchronous context manager, else a plain call. What is here is
# fixed; further parameters may follow, by keyword only and with a default.
CALLS = """
lend connect(address=None, *, namespace=None)
lend open_daemon(*, containerd="containerd", root=None, snapshotter=None)
Client.in_namespace(namespace)
lend Client.hold_lease(*, id=None, expires_in=timedelta(hours=24), labels=None)
await Client.version()
Client.supports(feature)
Client.snapshotter(name)
Services.stub(stub_class)

await Client.pull(ref, *, platform=None, all_platforms=False, unpack=True, snapshotter=None, labels=None,
    registry=None, via="auto")
lend Client.open_pull(ref, *, platform=None, all_platforms=False, unpack=True, snapshotter=None, labels=None,
    registry=None, via="auto")
await Client.ensure_image(ref, *, policy="missing", platform=None, all_platforms=False, unpack=True,
    snapshotter=None, labels=None, registry=None, via="auto")
await Client.push(ref, *, source=None, platform=None, registry=None, via="auto")
lend Client.open_push(ref, *, source=None, platform=None, registry=None, via="auto")
lend Registry.open_repository(reference)
await Registry.list_repositories(domain)
await Repository.resolve()
await Repository.list_tags()
await Repository.referrers(descriptor, artifact_types=())
await Repository.delete_manifest(descriptor)
await Repository.push_manifest(descriptor, data, *, tag=None)
await Repository.push_blob(descriptor, content, *, mount_from=None)
await Client.import_images(source, *, platform=None, all_platforms=False, unpack=True, snapshotter=None, labels=None,
    via="auto")
lend Client.open_import(source, **options)
await Client.export_images(names, destination, *, platform=None, all_platforms=False, skip_missing=False,
    skip_non_distributable=False, docker_manifest=True, via="auto")
lend Client.open_export(names, **options)
await Client.load_image(name)
await Client.list_images(filters=())
await Client.read_blob(descriptor)
Registry(*, hosts_dir=None, credentials=None, plain_http=None, skip_verify=False, ca=None, client_cert=None,
    user_agent=None)
await Image.record()
await Image.manifest()
await Image.config()
await Image.diff_ids()
await Image.chain_id()
await Image.platforms()
await Image.size()
await Image.usage(snapshotter=None)
await Image.history()
await Image.is_unpacked(snapshotter=None)
await Image.unpack(snapshotter=None)
await Image.tag(new_ref)
await Image.delete(*, synchronous=False)

await Client.create_container(id=None, *, image, args=None, env=None, cwd=None, user=None, mounts=(),
    terminal=False, spec_options=(), snapshotter=None, read_only=False, runtime=None, labels=None,
    extensions=None, network=None)
await Client.load_container(id)
await Client.list_containers(filters=())
await Client.load_container_named(name)
await Client.cleanup_state_directories()
await Container.name()
await Container.health_check()
await Container.probe(check=None)
await Container.wait_healthy(check=None)
await Volumes.create(name=None)
await Volumes.load(name)
await Volumes.list()
await Volumes.users(name)
await Volumes.delete(name)
await Volumes.prune(*, all=False)
await Container.record()
await Container.spec()
await Container.image()
await Container.labels()
await Container.set_labels(labels)
await Container.update()
await Container.delete(*, snapshot=True)
await Container.create_task(*, io=NULL_IO, checkpoint=None)
await Container.checkpoint(ref, *, task=True, rw=True, image=True, runtime=True, exit=False)
await Client.restore_container(id, checkpoint, *, rw=True, spec_options=())
await Task.checkpoint(ref=None, *, exit=False)
await Task.checkpoint_to(image_path, *, exit=False)
await load_cdi_registry(directories=("/etc/cdi", "/var/run/cdi"))
await find_cdi_devices(*names)
await is_apparmor_enabled()
await load_apparmor_profile(text)
await load_default_apparmor_profile(name="containerd-py-default")
default_apparmor_profile(name="containerd-py-default")
await Container.load_task(io=None)
lend deleting(thing)

await Client.run(image_or_ref, args=None, *, input=None, check=True, terminal=False, policy="missing", **options)
lend Client.open_run(image_or_ref, args=None, *, stdin=False, terminal=False, **options)

await Task.start()
await Task.wait()
await Task.kill(signal=SIGTERM, *, all=False)
await Task.pause()
await Task.resume()
await Task.resize(width, height)
await Task.close_stdin()
await Task.update(*, resources)
await Task.stop(*, signal=None, grace=10.0)
await Task.delete(*, force=False)
await Task.status()
await Task.pids()
await Task.metrics()
await Task.run_exec(args, *, user=None, cwd=None, env=None, input=None, check=True)
lend Task.open_exec(args, *, stdin=False, terminal=False)
await Task.create_exec(args, *, io=NULL_IO, user=None, cwd=None, env=None, id=None)
await Task.load_exec(id, io=None)
await Process.start()
await Process.wait()
await Process.kill(signal=SIGTERM, *, all=False)
await Process.resize(width, height)
await Process.close_stdin()
await Process.status()
await Process.delete(*, force=False)

lend open_fifos(*, stdin=True, stdout=True, stderr=True, terminal=False)
lend open_inherited()
lend attach_fifos(config)
json_file_log(folder=None)
lend Container.copy_out(path, *, follow_link=False, owner=None, sparse=False)
await Container.copy_in(path, source, *, owner=None)
await Container.copy_to_local(path, destination, *, follow_link=False, owner=None)
await Container.copy_from_local(source, path, *, follow_link=False, owner=None)
await Container.changes()
await Container.diff(*, compression="gzip")
await Client.cleanup_fifos(directory=None, *, older_than=timedelta(minutes=1), dry_run=False)
lend Container.logs(*, follow=False, tail=None, since=None, until=None, timestamps=False)
lend attached_terminal(process, *, detach_keys="ctrl-p,ctrl-q")
await TerminalSession.wait()
log_file(path)
log_uri(uri)
lend EventsService.subscribe(*filters)
await for_each(items, fn, *, limit=10)
ProcessExitError(exit_code, stdout=b"", stderr=b"", command="process")
"""
CONSTANTS = {"timedelta": timedelta, "NULL_IO": containerd_py.NULL_IO, "SIGTERM": signal.SIGTERM}

ATTRIBUTES = {
    "Client": "namespace services images containers content leases namespaces events tasks diff introspection transfer "
    "streaming sandboxes",
    "Services": "namespace images containers content leases namespaces events tasks diff introspection transfer "
    "streaming sandboxes version",
    "Container": "id",
    "Task": "id pid stdin stdout stderr",
    "Process": "id pid stdin stdout stderr",
    "Daemon": "address version",
    "Pull": "image",
    "Push": "target",
    "FifoIO": "config stdin stdout stderr",
}
INSTANCE_ATTRIBUTES = {"Image": "name target", "FifoIO": "config stdin stdout stderr"}  # set by __init__

FIELDS = {
    "Version": "version revision",
    "Progress": "event name parents progress total descriptor",
    "Descriptor": "media_type digest size",
    "CompletedProcess": "exit_code stdout stderr exited_at",
    "ExitStatus": "code exited_at",
    "Envelope": "event",
    "TaskExit": "container_id",
    "EventsGap": "",
    "Registry": "hosts_dir credentials plain_http skip_verify ca client_cert user_agent",
}

# Each error and what else it is: whoever catches the right side catches the left one.
ERRORS = {
    "NotFoundError": "ContainerdError",
    "AlreadyExistsError": "ContainerdError",
    "FailedPreconditionError": "ContainerdError",
    "InvalidArgumentError": "ContainerdError",
    "UnavailableError": "ContainerdError",
    "UnimplementedError": "ContainerdError",
    "PermissionDeniedError": "ContainerdError",
    "ResourceExhaustedError": "ContainerdError",
    "AbortedError": "ContainerdError",
    "OutOfRangeError": "ContainerdError",
    "InternalError": "ContainerdError",
    "DataLossError": "ContainerdError",
    "UnauthenticatedError": "ContainerdError",
    "DeadlineExceededError": "ContainerdError",
    "UnknownError": "ContainerdError",
    "ConflictError": "ContainerdError",
    "DaemonConnectError": "ContainerdError ConnectionError",
    "SocketNotFoundError": "DaemonConnectError",
    "SocketPermissionError": "DaemonConnectError",
    "DaemonNotListeningError": "DaemonConnectError",
    "TaskLostError": "ContainerdError",
    "ArchiveError": "InvalidArgumentError",
    "DigestMismatchError": "DataLossError",
    "RegistryError": "ContainerdError",
    "RegistryAuthenticationError": "RegistryError",
    "RegistryNotFoundError": "RegistryError",
    "RegistryRateLimitedError": "RegistryError",
    "ProcessExitError": "ContainerdError",
    "NotSupportedError": "ContainerdError",
}
SPEC_OPTIONS = ("with_process_args", "with_env", "with_mounts", "with_memory_limit", "with_capabilities", "SpecOption")


def _lines() -> list[str]:
    return [line for line in CALLS.replace("\n    ", " ").splitlines() if line]


def _find(path: str) -> typing.Any:
    name, *rest = path.split(".")
    found = getattr(containerd_py, name, None) or getattr(bundle, name, None)  # found by way of the client
    found = found or getattr(events, name)  # which fetches this one when it is asked for
    for part in rest:
        found = getattr(found, part)
    return found


def _wanted(line: str) -> tuple[str, str, list[inspect.Parameter]]:
    """Read a line of the table: the kind of call, what is called, its parameters."""
    head, _, rest = line.partition("(")
    *kind, path = head.split()
    node = ast.parse(f"def wanted({rest}: ...").body[0]
    source: dict[str, typing.Any] = dict(CONSTANTS)
    exec(compile(ast.Module([node], []), line, "exec"), source)
    return (kind or ["plain"])[0], path, list(inspect.signature(source["wanted"]).parameters.values())


def _may_follow(parameter: inspect.Parameter) -> bool:
    return parameter.kind is parameter.KEYWORD_ONLY and parameter.default is not parameter.empty


@pytest.mark.parametrize("line", _lines(), ids=lambda line: line.partition("(")[0].rpartition(" ")[2])
def test_calls_have_their_shape(line: str):
    """Parameters have the names, kinds and defaults of the contract; more may follow, by keyword and with a default."""
    _, path, wanted = _wanted(line)
    found = [p for p in inspect.signature(_find(path)).parameters.values() if p.name != "self"]
    fixed = {parameter.name for parameter in wanted}
    assert [_shape(p) for p in found if p.name in fixed and _is_positional(p)] == [
        _shape(p) for p in wanted if _is_positional(p)
    ]
    assert {_shape(p) for p in found if p.name in fixed} == {_shape(p) for p in wanted}
    assert [str(p) for p in found if p.name not in fixed and not _may_follow(p)] == []


def _shape(parameter: inspect.Parameter) -> tuple[object, ...]:
    return parameter.name, parameter.kind, parameter.default


def _is_positional(parameter: inspect.Parameter) -> bool:
    return parameter.kind is parameter.POSITIONAL_OR_KEYWORD


@pytest.mark.parametrize("line", _lines(), ids=lambda line: line.partition("(")[0].rpartition(" ")[2])
def test_calls_are_awaited_entered_or_neither(line: str):
    """What acts in the daemon is awaited, what lends a resource is entered, what derives a value is called."""
    kind, path, _ = _wanted(line)
    called = _find(path)
    is_coroutine = inspect.iscoroutinefunction(called)
    is_lender = inspect.isasyncgenfunction(getattr(called, "__wrapped__", None)) or (
        not inspect.isclass(called)
        and typing.get_origin(typing.get_type_hints(called).get("return")) is AbstractAsyncContextManager
    )
    assert {"await": (True, False), "lend": (False, True), "plain": (False, False)}[kind] == (is_coroutine, is_lender)


@pytest.mark.parametrize(("name", "attributes"), [*ATTRIBUTES.items(), *INSTANCE_ATTRIBUTES.items()])
def test_handles_have_their_attributes(name: str, attributes: str):
    """What identifies a handle, and what hangs off it, is an attribute."""
    owner = getattr(containerd_py, name)
    set_by_init = owner.__init__.__code__.co_names
    assert [a for a in attributes.split() if not hasattr(owner, a) and a not in set_by_init] == []


@pytest.mark.parametrize(("name", "fields"), FIELDS.items())
def test_values_have_their_fields(name: str, fields: str):
    """Values are frozen, and their fields come by keyword."""
    value = getattr(containerd_py, name)
    assert [field for field in fields.split() if field not in attrs.fields_dict(value)] == []
    assert all(field.kw_only for field in attrs.fields(value))


@pytest.mark.parametrize(("name", "parents"), ERRORS.items())
def test_errors_are_one_tree(name: str, parents: str):
    """Every error is a ContainerdError, and the more general one catches the special one."""
    for parent in parents.split():
        expected = getattr(containerd_py, parent, None) or getattr(builtins, parent)
        assert issubclass(getattr(containerd_py, name), expected)


@pytest.mark.parametrize("name", [name for name in containerd_py.__all__ if name.endswith("Error")])
def test_errors_survive_copies(name: str):
    """An error comes through pickle and copy as it was: test runners and process pools send them around."""
    error = getattr(containerd_py, name)(*(["sha256:a", "sha256:b"] if name == "DigestMismatchError" else ["message"]))
    error.add_note("with a note")
    for copied in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert (type(copied), str(copied), copied.__dict__) == (type(error), str(error), error.__dict__)


def test_run_takes_what_create_container_takes():
    """The options of run and open_run are those of create_container, but for what they name themselves."""
    named = {"self", "image", "args", "terminal"}
    assert set(ContainerOptions.__annotations__) == set(inspect.signature(Client.create_container).parameters) - named


def test_open_import_and_open_export_take_what_the_others_take():
    """Options by keyword are those of the calls that name them, with the same defaults."""
    for options, call in ((ImportOptions, Client.import_images), (ExportOptions, Client.export_images)):
        named = {name for name, p in inspect.signature(call).parameters.items() if p.kind is p.KEYWORD_ONLY}
        assert set(options.__annotations__) == named
    for field in attrs.fields(ImportWish):
        assert inspect.signature(Client.import_images).parameters[field.name].default == field.default


def test_spec_options_are_under_one_roof():
    """The whole family is imported from one module, and each name in it is there."""
    assert [name for name in SPEC_OPTIONS if name not in spec_options.__all__] == []
    assert [name for name in spec_options.__all__ if not hasattr(spec_options, name)] == []


def test_help_for_consoles_and_tests_is_apart():
    """The root needs neither rich nor pytest; what needs them is imported by its own name."""
    from containerd_py.console import PullBars

    assert list(inspect.signature(PullBars.follow).parameters) == ["self", "progress"]
    assert importlib.util.find_spec("containerd_py.testing.plugin") is not None


# ── what holds for all of it ────────────────────────────────────────────────────────────────────────────────────────


def _public_modules() -> list[str]:
    found = (module.name for module in pkgutil.walk_packages(containerd_py.__path__, "containerd_py."))
    return sorted(name for name in found if not any(part.startswith("_") for part in name.split(".")))


def _callables_of(owner: type) -> typing.Iterator[tuple[str, typing.Any]]:
    ours = [base for base in reversed(owner.__mro__) if base.__module__.startswith("containerd_py")]
    for name, member in {name: member for base in ours for name, member in vars(base).items()}.items():
        if name.startswith("_") or isinstance(member, type):
            continue
        if isinstance(member, property):
            yield name, member.fget
        elif isinstance(member, staticmethod | classmethod):
            yield name, member.__func__
        elif inspect.isfunction(member) or hasattr(member, "func"):  # the latter: cached_property
            yield name, getattr(member, "func", member)


def _public_callables() -> dict[str, typing.Any]:
    """Find every function, class and method that a user can reach without an underscore."""
    found: dict[str, typing.Any] = {}
    modules = [vars(importlib.import_module(name)) for name in _public_modules()]
    exported = {name: getattr(containerd_py, name) for name in containerd_py.__all__}
    things = [
        thing
        for names in (exported, *modules)
        for name, thing in names.items()
        if not name.startswith("_") and getattr(thing, "__module__", "").startswith("containerd_py")
        if (inspect.isclass(thing) or inspect.isfunction(thing)) and "_generated" not in thing.__module__
    ]
    for thing in things:
        found[f"{thing.__module__}.{thing.__qualname__}"] = thing
        if inspect.isclass(thing):
            for name, member in _callables_of(thing):
                found[f"{thing.__module__}.{thing.__qualname__}.{name}"] = member
    return found


PUBLIC = _public_callables()


def test_there_is_something_to_check():
    """The walk below reaches handles, services, values and spec options."""
    for path in ("client.Client.pull", "services.content.ContentService.open_writer", "oci.process_options.with_env"):
        assert f"containerd_py.{path}" in PUBLIC


def test_everything_public_has_a_docstring():
    """Every public module, class, function, method and property says what it is or does."""
    modules = [module for module in map(importlib.import_module, _public_modules()) if not hasattr(module, "__path__")]
    assert [path for path, thing in PUBLIC.items() if not (thing.__doc__ or "").strip()] == []
    assert [module.__name__ for module in modules if not module.__doc__] == []


def test_everything_public_is_annotated():
    """Every parameter and every result has a type."""
    missing = []
    for path, thing in PUBLIC.items():
        function = thing.__init__ if inspect.isclass(thing) else thing
        if not getattr(inspect.unwrap(function), "__module__", "").startswith("containerd_py"):
            continue  # an __init__ that is not ours
        signature = inspect.signature(function)
        parameters = [*signature.parameters.values()][1 if "self" in signature.parameters else 0 :]
        missing += [f"{path}({p.name})" for p in parameters if p.annotation is p.empty and p.name != "cls"]
        if signature.return_annotation is signature.empty and not inspect.isclass(thing):
            missing.append(f"{path} ->")
    assert missing == []


def test_time_limits_are_the_callers():
    """Nothing takes a timeout: callers use cancel scopes, except where the wait is itself the operation."""
    limited = [
        path
        for path, thing in PUBLIC.items()
        if inspect.isfunction(inspect.unwrap(thing)) or attrs.has(thing)
        for name in inspect.signature(thing).parameters
        if name in {"timeout", "deadline", "time_limit"}
    ]
    assert limited == []


def test_handles_hold_services_not_the_client():
    """The graph of objects has no cycle: a handle knows the services it asks, never the client."""
    for handle in (Image, Container, Task, Process):
        assert "services" in inspect.signature(handle.__init__).parameters
    assert "rpc" in inspect.signature(Services.__init__).parameters
