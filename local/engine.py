"""The real deployment engine on a local world: preview, up, destroy, and what came of it.

The engine runs `__main__.py` inline (Automation API), so no language host is needed. It works on a
copy of the project's two files, because it writes into a stack file (salt, quoting) and a checkout
must stay clean. Providers are plugins on PATH: stand-ins by default, the real ones on request.
"""

from __future__ import annotations

import contextlib
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import yaml
from pulumi import automation
from pulumi.automation import events
from pulumi.automation.errors import create_command_error

from local.errors import LocalError
from local.files import write_whole
from local.toolchain import build
from local.toolchain.build import Say
from local.world import PROJECT, Access, World, switched
from policies import declared
from policies.model import Resource
from stacks import document
from stacks.loader import NAMESPACE, file_name
from stacks.systems import DataSystem

PROVIDERS = ("kubernetes", "aws", "random")
INSTALL_SECONDS = 120
LAUNCHERS = Path(__file__).parent / "providers" / "bin"
POLICY_PACK = PROJECT / "policies"
_ANALYZER = "pulumi-analyzer-policy-python"


@dataclass(frozen=True)
class Step:
    """One thing that the engine did, or would do."""

    operation: str
    urn: str
    changed: tuple[str, ...]

    @property
    def type(self) -> str:
        """The last part of the resource's type: `Deployment`."""
        return self.urn.split("::")[2].rsplit("$", 1)[-1].rsplit(":", 1)[-1]

    @property
    def name(self) -> str:
        """The resource's name in the program."""
        return self.urn.rsplit("::", 1)[-1]


@dataclass
class Outcome:
    """What one run of the engine came to."""

    seconds: float = 0.0
    succeeded: bool = False
    interrupted: bool = False
    changes: dict[str, int] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    violations: list[events.PolicyEvent] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    outputs: dict[str, Any] = field(default_factory=dict)
    by_urn: dict[str, Resource] = field(default_factory=dict)
    """What the program declares; of a resource that is replaced, as it will be."""
    adjusted: bool = False
    """Whether what the engine keeps changes: protection of resources, outputs of the stack."""

    @property
    def declared(self) -> list[Resource]:
        """Every resource that the program declares, once."""
        return list(self.by_urn.values())

    @property
    def resources(self) -> int:
        """How many resources the stack has after the run."""
        return sum(count for kind, count in self.changes.items() if kind != "delete")

    @property
    def is_noop(self) -> bool:
        """Whether nothing changes, neither outside the engine nor in what it keeps."""
        return set(self.changes) <= {"same"} and not self.adjusted


def platform() -> None:
    """Run the project's program in this process."""
    if str(PROJECT) not in sys.path:
        sys.path.insert(0, str(PROJECT))
    runpy.run_path(str(PROJECT / "__main__.py"), run_name="__main__")


@dataclass(frozen=True)
class Engine:
    """The engine, set up for one world."""

    world: World
    pulumi: Path
    environment: Mapping[str, str]
    project: Path
    say: Say
    program: Callable[[], None] = platform
    """What it runs; the project's own program unless somebody measures another."""

    @classmethod
    def prepare(cls, world: World, access: Access, say: Say) -> Engine:
        """Copy the project, choose the providers, and mend what an engine killed before left."""
        pulumi = build.ensure(["pulumi"], say)["pulumi"]
        state = world.engine / "state"
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        stand_ins = world.engine / "bin"
        environment = {
            **access.environment,
            "PATH": f"{stand_ins}:{os.environ['PATH']}",
            "FT_PYTHON": sys.executable,
            # No notes beside the state: they are not written at once, and a state cannot be read
            # while its notes are half there.
            "PULUMI_BACKEND_URL": f"file://{state}?metadata=skip",
            "PULUMI_CONFIG_PASSPHRASE": world.passphrase(),
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "PULUMI_DIY_BACKEND_DISABLE_CHECKPOINT_BACKUPS": "true",
            "PYTHONPATH": str(PROJECT),
        }
        if not switched("PROVIDERS", "real"):
            environment["PULUMI_HOME"] = str(world.engine / "home")
            environment["PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION"] = "true"
        _choose_providers(stand_ins, pulumi, environment, say)
        _forget_stale_locks(state)
        return cls(world, pulumi, environment, _copy_project(world, access.config), say)

    def preview(self, *, refresh: bool = True, policies: bool = True) -> Outcome:
        """What `up` would do, judged by the policy pack."""
        return self._run("preview", refresh=refresh, policies=policies)

    def up(self, *, refresh: bool = True, policies: bool = True) -> Outcome:
        """Make the world what the program says, whatever it is now."""
        return self._run("up", refresh=refresh, policies=policies)

    def destroy(self) -> Outcome:
        """Delete every resource of the stack."""
        return self._run("destroy", refresh=False, policies=False)

    def _run(self, command: str, *, refresh: bool, policies: bool) -> Outcome:
        outcome = Outcome()
        progress = _Progress(outcome, file_name(self.world.stack), self.say)
        runner = _Command(self.pulumi)
        start = time.monotonic()
        self.world.logs.mkdir(parents=True, exist_ok=True)
        with (self.world.logs / f"{command}.log").open("w") as log, runner.interruptible(self.say):
            arguments: dict[str, Any] = {"on_event": progress.take, "on_output": _writer(log)}
            arguments["on_error"] = arguments["on_output"]
            if command != "destroy":
                arguments["refresh"] = refresh
            if policies:
                levels = POLICY_PACK / "levels" / f"{self.world.stack}.json"
                arguments["policy_packs"] = [str(POLICY_PACK)]
                arguments["policy_pack_configs"] = [str(levels)]
            try:
                result = getattr(self._stack(runner), command)(**arguments)
            except automation.CommandError as error:
                outcome.interrupted = runner.interrupted
                if not outcome.errors and not outcome.violations and not runner.interrupted:
                    outcome.errors.append(_last_words(error))
            else:
                outcome.succeeded = True
                if command == "up":
                    outcome.outputs = {name: o.value for name, o in result.outputs.items()}
        outcome.seconds = time.monotonic() - start
        return outcome

    def _stack(self, runner: _Command) -> automation.Stack:
        return automation.create_or_select_stack(
            self.world.stack,
            _project_name(),
            self.program,
            opts=automation.LocalWorkspaceOptions(
                work_dir=str(self.project), env_vars=self.environment, pulumi_command=runner
            ),
        )


class _Command(automation.PulumiCommand):
    """Runs the engine in a session of its own, so that one Ctrl-C reaches it once, through us.

    In our session the terminal would send it too, and the engine takes a second one as "at once".
    """

    def __init__(self, program: Path) -> None:
        self._program = str(program)
        self._child: subprocess.Popen[str] | None = None
        self.interrupted = False
        super().__init__(root=None, skip_version_check=False)

    @property
    def command(self) -> str:
        return self._program

    @command.setter
    def command(self, _: str) -> None:
        """The base class sets it to what is on PATH; ours is known."""

    @contextlib.contextmanager
    def interruptible(self, say: Say) -> Iterator[None]:
        """Pass SIGINT and SIGTERM on to the engine, which then stops cleanly."""

        def forward(*_: object) -> None:
            if self._child is None:
                raise KeyboardInterrupt
            self.interrupted = True
            say("stopping: waiting for the engine to save its state (a few seconds)")
            self._child.send_signal(signal.SIGINT)

        if threading.current_thread() is not threading.main_thread():
            yield
            return
        previous = {number: signal.signal(number, forward) for number in _STOP_SIGNALS}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def run(
        self,
        args: list[str],
        cwd: str,
        additional_env: Mapping[str, str],
        on_output: automation.OnOutput | None = None,
        on_error: automation.OnOutput | None = None,
    ) -> automation.CommandResult:
        """Run one command of the engine to its end.

        Raises:
            CommandError: if it fails.
        """
        with subprocess.Popen(
            [self._program, "--non-interactive", *args],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=cwd,
            env={**os.environ, **additional_env, "PULUMI_AUTOMATION_API": "true"},
            encoding="utf-8",
            start_new_session=True,
        ) as child:
            self._child = child
            error_lines: list[str] = []
            reader = threading.Thread(
                target=_read, args=(child.stderr, error_lines, on_error), daemon=True
            )
            reader.start()
            lines: list[str] = []
            _read(child.stdout, lines, on_output)
            reader.join()
            child.wait()
        self._child = None
        result = automation.CommandResult(
            stdout="\n".join(lines), stderr="\n".join(error_lines), code=child.returncode
        )
        if child.returncode != 0:
            raise create_command_error(result)
        return result


_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class _Progress:
    """Turns the engine's events into an outcome, and says what goes on."""

    def __init__(self, outcome: Outcome, stack_file: str, say: Say) -> None:
        self._outcome = outcome
        self._stack_file = stack_file
        self._say = say
        self._started: dict[str, float] = {}

    def take(self, event: events.EngineEvent) -> None:
        """Take one event."""
        if event.resource_pre_event:
            self._before(event.resource_pre_event.metadata)
        elif event.res_outputs_event:
            self._after(event.res_outputs_event.metadata)
        elif event.policy_event:
            self._outcome.violations.append(event.policy_event)
        elif event.diagnostic_event:
            self._diagnostic(event.diagnostic_event)
        elif event.summary_event:
            for kind, count in event.summary_event.resource_changes.items():
                self._outcome.changes[str(getattr(kind, "value", kind))] = count

    def _before(self, metadata: events.StepEventMetadata) -> None:
        operation = _operation(metadata)
        if metadata.new is not None and operation != _REFRESH:
            self._outcome.by_urn[metadata.urn] = declared.resource(
                metadata.type, metadata.urn, metadata.new.inputs or {}
            )
        if operation not in _QUIET and not metadata.type.startswith(_INNER):
            changed = tuple(sorted(metadata.detailed_diff or metadata.diffs or ()))
            step = Step(operation, metadata.urn, changed)
            self._outcome.steps.append(step)
            self._started[metadata.urn] = time.monotonic()

    def _after(self, metadata: events.StepEventMetadata) -> None:
        self._outcome.adjusted |= _is_adjusted(metadata)
        start = self._started.pop(metadata.urn, None)
        if start is not None and time.monotonic() - start >= _SLOW_SECONDS:
            name = Step(_operation(metadata), metadata.urn, ())
            self._say(f"{name.operation} {name.type} {name.name}, {time.monotonic() - start:.0f} s")

    def _diagnostic(self, event: events.DiagnosticEvent) -> None:
        text = event.message.strip()
        if not text or event.ephemeral:
            return
        if event.urn and (action := _PROTECTED.search(text)):
            text = _protected(event.urn, _ACTIONS[action[0]], self._stack_file)
        elif event.urn:
            resource = Step("", event.urn, ())
            text = f"{resource.type} {resource.name}: {text}"
        if event.severity == "error" and not any(echo in text for echo in _ECHOES):
            self._outcome.errors.append(text)
        elif event.severity == "warning" and "from $PATH" not in text:
            self._outcome.warnings.append(text)


_REFRESH = "refresh"
_QUIET = {"same", "read", _REFRESH}
_INNER = ("pulumi:", "fault-tolerance:")
"""Types without an object of their own: the stack, its providers, our components."""
_ECHOES = ("context canceled", "exited prematurely", "failed to run remediation")
"""What the engine says of its own stopping, once another error has stopped it."""
_SLOW_SECONDS = 2.0
_ACTIONS = {"cannot be deleted": "deleted", "unable to replace": "replaced"}
_PROTECTED = re.compile(f"(?:{'|'.join(_ACTIONS)})(?=.*protect)", re.DOTALL)
"""What the engine says of a protected resource that it will not delete or replace."""
_COMPONENT = re.compile(r"fault-tolerance:(\w+):")


def _protected(urn: str, action: str, stack_file: str) -> str:
    """Say what is protected, and by which key of the stack file."""
    resource = Step("", urn, ())
    part = _COMPONENT.findall(urn.split("::")[2])[-1]
    remedy = (
        f"name {part} in {NAMESPACE}:unprotect"
        if part in set(DataSystem)
        else f"set {NAMESPACE}:protect to false"
    )
    return (
        f"{stack_file}: {resource.type} {resource.name} would be {action}, but is protected, "
        "since data goes with it: take the change back; or, if the data may be lost, "
        f"{remedy} and run an update first"
    )


def _is_adjusted(metadata: events.StepEventMetadata) -> bool:
    """Whether a resource that stays the same is protected otherwise, or the stack tells more."""
    old, new = metadata.old, metadata.new
    if old is None or new is None:
        return False
    if metadata.type == "pulumi:pulumi:Stack":
        return bool(old.outputs != new.outputs)
    return bool(old.protect) != bool(new.protect) or (
        bool(old.retain_on_delete) != bool(new.retain_on_delete)
    )


def _operation(metadata: events.StepEventMetadata) -> str:
    return str(getattr(metadata.op, "value", metadata.op))


def _read(
    stream: IO[str] | None, lines: list[str], callback: Callable[[str], object] | None
) -> None:
    for line in stream or ():
        lines.append(line.rstrip())
        if callback:
            callback(line.rstrip())


def _writer(log: IO[str]) -> Callable[[str], None]:
    def write(line: str) -> None:
        with contextlib.suppress(OSError):  # a full disk: the engine's own errors tell it
            log.write(f"{line}\n")
            log.flush()

    return write


def _last_words(error: automation.CommandError) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return "\n".join(lines[-10:])


def _project_name() -> str:
    return str(yaml.safe_load((PROJECT / "Pulumi.yaml").read_text())["name"])


def _copy_project(world: World, config: Mapping[str, object]) -> Path:
    """Copy what the engine reads; its own salt in the copy of the stack file is kept.

    Args:
        world: whose engine reads it.
        config: what this machine makes different, laid over the stack file's own.
    """
    target = world.engine / "project"
    (target / "stacks").mkdir(parents=True, exist_ok=True)
    shutil.copyfile(PROJECT / "Pulumi.yaml", target / "Pulumi.yaml")
    name = f"Pulumi.{world.stack}.yaml"
    stack = document.plain((PROJECT / "stacks" / name).read_text())
    copy = target / "stacks" / name
    salt = _salt(copy)
    if salt and "encryptionsalt" not in stack:
        stack["encryptionsalt"] = salt
    stack["config"].update(config)
    write_whole(copy, yaml.safe_dump(stack, sort_keys=False))
    return target


def _salt(copy: Path) -> str | None:
    """The engine's own salt in a copy of before; none where a full disk cut that short."""
    try:
        before = document.plain(copy.read_text())
    except (OSError, ValueError, yaml.YAMLError):
        return None
    return before.get("encryptionsalt") if isinstance(before, dict) else None


def _forget_stale_locks(state: Path) -> None:
    """Remove the locks of an engine that was killed: we hold the world's lock, so none is alive."""
    for lock in (state / ".pulumi" / "locks").rglob("*"):
        if lock.is_file():  # also half a lock, which a full disk leaves
            lock.unlink()


def _choose_providers(folder: Path, pulumi: Path, environment: Mapping[str, str], say: Say) -> None:
    """Put a stand-in on PATH for each provider whose real plugin is not wanted or not to be had."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    real = switched("PROVIDERS", "real")
    for provider in PROVIDERS:
        if real and _has_real(provider, pulumi, environment):
            say(f"provider {provider}: the real plugin")
            continue
        if real:
            say(f"provider {provider}: the real plugin cannot be had here, so the stand-in serves")
        _launch(folder, f"pulumi-resource-{provider}")
    if shutil.which(_ANALYZER) is None:
        _launch(folder, _ANALYZER)


def _launch(folder: Path, name: str) -> None:
    launcher = folder / name
    launcher.write_text(f'#!/bin/sh\nexec "{LAUNCHERS / name}" "$@"\n')
    launcher.chmod(0o755)


def _has_real(provider: str, pulumi: Path, environment: Mapping[str, str]) -> bool:
    if shutil.which(f"pulumi-resource-{provider}"):
        return True
    version = _pinned_version(f"pulumi-{provider}")
    with contextlib.suppress(subprocess.TimeoutExpired):
        installed = subprocess.run(
            [str(pulumi), "plugin", "install", "resource", provider, version],
            env={**os.environ, **environment},
            capture_output=True,
            check=False,
            timeout=INSTALL_SECONDS,
        )
        return installed.returncode == 0
    return False


def _pinned_version(package: str) -> str:
    for line in (PROJECT / "requirements.txt").read_text().splitlines():
        name, _, version = line.partition("==")
        if name.strip() == package:
            return version.split("#")[0].strip()
    raise LocalError(f"requirements.txt does not pin {package}")
