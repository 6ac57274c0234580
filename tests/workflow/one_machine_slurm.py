"""A whole Slurm on this machine: munged, slurmctld and slurmd with a configuration, ports and folders of their own."""

import contextlib
import getpass
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol")
NODE, PARTITION = "onlynode", "main"
_CONFIGURATION = """
ClusterName=ofthetest
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
ReturnToService=2
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MinJobAge=300
SlurmctldDebug=info
SlurmdDebug=info
NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={node_port} CPUs={processors} RealMemory=16000 State=UNKNOWN
PartitionName={partition} Nodes={node} Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
"""


@dataclass(frozen=True)
class Slurm:
    """A running Slurm. environment: what its commands need to find it."""

    environment: dict[str, str]

    def ask(self, *command: str) -> str:
        """The output of one of its commands."""
        pipes = {"capture_output": True, "text": True, "timeout": 60}
        return subprocess.run(command, env=self.environment, check=True, **pipes).stdout.strip()

    def running(self) -> list[str]:
        """Ids of the jobs that run."""
        return self.ask("squeue", "--noheader", "--states=RUNNING", "--format=%i").split()


def missing_programs() -> list[str]:
    """Which of Slurm's programs this machine lacks."""
    # Debian keeps daemons where only root's path leads.
    return [name for name in PROGRAMS if shutil.which(name, path=_path()) is None]


@contextlib.contextmanager
def one_machine_slurm(processors: int) -> Iterator[Slurm]:
    """Start a Slurm of one node with so many processors, and end all of it afterwards."""
    # Sockets have names of at most 108 letters, which pytest's folders would exceed.
    folder = Path(tempfile.mkdtemp(prefix="slurm"))
    os.chmod(folder, 0o755)
    daemons: list[subprocess.Popen] = []
    try:
        environment = _configure(folder, processors)
        start = _starter(folder, environment, daemons)
        key, munge_socket = folder / "munge.key", folder / "munge.socket"
        key.write_bytes(secrets.token_bytes(128))
        os.chmod(key, 0o400)
        places = [f"--{name}-file={folder}/munge.{name}" for name in ("pid", "log", "seed")]
        start("munged", "--foreground", "--force", f"--key-file={key}", f"--socket={munge_socket}", *places)
        _wait_for(munge_socket.exists, "munged opens its socket", folder)
        start("slurmctld", "-D", "-f", environment["SLURM_CONF"])
        start("slurmd", "-D", "-f", environment["SLURM_CONF"], "-N", NODE)
        slurm = Slurm(environment)
        _wait_for(lambda: _is_idle(slurm), "the node is ready", folder)
        yield slurm
    finally:
        # What a failed test left running would outlive the daemons.
        with contextlib.suppress(subprocess.SubprocessError, UnboundLocalError):
            slurm.ask("scancel", "--state=RUNNING", "--signal=KILL", "--user", getpass.getuser())
        for daemon in reversed(daemons):
            daemon.terminate()
        for daemon in daemons:
            with contextlib.suppress(subprocess.TimeoutExpired):
                daemon.wait(timeout=20)
            daemon.kill()
        shutil.rmtree(folder, ignore_errors=True)


def _configure(folder: Path, processors: int) -> dict[str, str]:
    for name in ("state", "spool"):
        (folder / name).mkdir()
    controller_port, node_port = _free_ports(2)
    values = {"host": socket.gethostname().partition(".")[0], "user": getpass.getuser(), "folder": folder}
    values |= {"controller_port": controller_port, "node_port": node_port, "processors": processors}
    configuration = folder / "slurm.conf"
    configuration.write_text(_CONFIGURATION.format(node=NODE, partition=PARTITION, **values))
    # Within a job snakemake forgets all of Slurm's variables: elsewhere the configuration lies where srun finds it without.
    srun = folder / "bin" / "srun"
    srun.parent.mkdir()
    srun.write_text(f'#!/bin/sh\nSLURM_CONF={configuration} exec {shutil.which("srun", path=_path())} "$@"\n')
    srun.chmod(0o755)
    own = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "SBATCH_"))}
    return own | {"SLURM_CONF": str(configuration), "PATH": f"{srun.parent}{os.pathsep}{_path()}"}


def _starter(folder: Path, environment: dict[str, str], daemons: list[subprocess.Popen]) -> Callable[..., None]:
    def start(program: str, *arguments: str) -> None:
        command = [shutil.which(program, path=environment["PATH"]), *arguments]
        with open(folder / f"{program}.output", "wb") as output:
            daemons.append(subprocess.Popen(command, env=environment, stdout=output, stderr=output, start_new_session=True))

    return start


def _is_idle(slurm: Slurm) -> bool:
    try:
        return "idle" in slurm.ask("sinfo", "--noheader", "--format=%t")
    except subprocess.SubprocessError:
        return False


def _wait_for(condition: Callable[[], bool], what: str, folder: Path, seconds: float = 40) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            logs = "\n".join(f"{path.name}: {path.read_text()[-1500:]}" for path in sorted(folder.glob("*.[lo][ou]*")))
            raise AssertionError(f"{seconds} seconds went by before {what}; {logs}")
        time.sleep(0.1)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _path() -> str:
    return os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
