"""What runs beside a training: analyses in processes of their own, commands on the CPU; and the clock that ends all."""
import contextlib, itertools, multiprocessing, os, queue, shlex, signal, subprocess, threading, time, traceback, zipfile
from pathlib import Path

import torch

from ncib.core import atomic_write

RESERVE = 8. # seconds at the end for what is written then
SIDE_FILES = (".csv", ".json", ".jsonl", ".png", ".txt") # what is kept of a command's folder
SIDE_LIMIT = 12*2**20 # bytes of all that is kept
SIDE_FILE_LIMIT = 2**21 # bytes of a file that is kept


class OutOfTime(BaseException):
    "The time is up. No `Exception`, so that nothing on the way takes it for a failure of its own."


class Clock:
    "So many seconds from now, less what is kept for the end."
    def __init__(self, seconds: float): self.began, self.seconds = time.monotonic(), seconds

    @property
    def gone(self)->float: return time.monotonic() - self.began

    @property
    def left(self)->float: return self.seconds - self.gone - RESERVE

    @contextlib.contextmanager
    def alarm(self):
        "`OutOfTime` in the main thread when the time is up, or when the process is asked to end."
        def ring(number, frame): raise OutOfTime("asked to end" if number == signal.SIGTERM else "the time was up")
        before = {s: signal.signal(s, ring) for s in (signal.SIGALRM, signal.SIGTERM)}
        signal.setitimer(signal.ITIMER_REAL, max(self.left, .001))
        try: yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            for s, b in before.items(): signal.signal(s, b)


def serve(connection):
    "An analyst's life: a task comes in, its result goes out."
    torch.set_num_threads(1)
    with contextlib.suppress(EOFError, KeyboardInterrupt):
        while True:
            task = connection.recv()
            try: connection.send((task(), None))
            except Exception: connection.send((None, traceback.format_exc()))


class Analysts:
    "Tasks by priority (0 comes first) in so many processes; without processes, at once in this one."
    def __init__(self, count: int):
        self.waiting, self.order, self.open = queue.PriorityQueue(), itertools.count(), 0
        self.lock, self.idle, self.processes, self.closed = threading.Lock(), threading.Event(), [], False
        self.idle.set()
        for i in range(count):
            self.processes.append(None)
            threading.Thread(target=self._feed, args=(i, self._start(i)), daemon=True).start()

    def _start(self, i: int): # the connection to process i, which is new
        context = multiprocessing.get_context("spawn")                          # a forked process cannot use CUDA
        ours, theirs = context.Pipe()
        self.processes[i] = context.Process(target=serve, args=(theirs,), daemon=True)
        self.processes[i].start()
        theirs.close()
        return ours

    def _feed(self, i, connection):
        while True:
            _, _, task, then = self.waiting.get()
            try:
                connection.send(task)
                answer = connection.recv()
            except (EOFError, OSError) as e:
                if self.closed: return
                answer, connection = (None, f"the analyst's process ended ({type(e).__name__})"), self._start(i)
            except Exception: answer = None, traceback.format_exc()             # a task that cannot be sent
            try: then(*answer)
            except Exception: traceback.print_exc()
            with self.lock:
                self.open -= 1
                if not self.open: self.idle.set()

    def submit(self, priority: int, task, then): # then(result, error) is called in another thread
        "`task` can be pickled; of its result and its error, the traceback as text, one is `None`."
        if not self.processes:
            try: answer = task(), None
            except Exception: answer = None, traceback.format_exc()
            return then(*answer)
        with self.lock:
            self.open += 1
            self.idle.clear()
        self.waiting.put((priority, next(self.order), task, then))

    def wait(self, seconds: float)->bool: return self.idle.wait(max(0, seconds))

    def close(self):
        self.closed = True
        for p in self.processes: p.kill()


class Side:
    "Commands on the CPU, at the lowest priority; `{side}` in one is its folder, whose small files go to side.zip."
    def __init__(self, commands: list[str], folder: Path):
        self.running, alone = [], {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        for i, command in enumerate(commands):
            own = folder/str(i)
            own.mkdir(parents=True, exist_ok=True)
            words = ["nice", "-n", "19", *shlex.split(command.replace("{side}", str(own)))]
            with open(own/"output.txt", "ab") as out:
                process = subprocess.Popen(words, stdout=out, stderr=subprocess.STDOUT, env={**os.environ, **alone},
                                           start_new_session=True)
            self.running.append((command, own, process))

    def _signal(self, number):
        for _, _, process in self.running:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError): os.killpg(process.pid, number) # and what it has started

    @contextlib.contextmanager
    def paused(self):
        "Nothing of it runs inside the block."
        self._signal(signal.SIGSTOP)
        try: yield
        finally: self._signal(signal.SIGCONT)

    def close(self, out: Path)->list[dict]:
        "Ends what runs, writes side.zip, and tells what became of each."
        told = []
        for command, _, process in self.running:
            status = process.poll()
            said = "ended at the deadline, unfinished" if status is None else f"failed with status {status}"
            told.append({"command": command, "status": "finished" if status == 0 else said})
        self._signal(signal.SIGTERM)
        for _, _, process in self.running:
            try: process.wait(2)
            except subprocess.TimeoutExpired:
                self._signal(signal.SIGKILL)
                process.wait()
        if self.running: self._keep(out/"side.zip")
        return told

    def _keep(self, archive: Path):
        total = 0
        with atomic_write(archive) as tmp, zipfile.ZipFile(tmp, "w", zipfile.ZIP_DEFLATED) as z:
            for _, own, _ in self.running:
                for file in sorted(f for f in own.rglob("*") if f.suffix in SIDE_FILES and f.is_file()):
                    size = file.stat().st_size
                    if size > SIDE_FILE_LIMIT or total + size > SIDE_LIMIT: continue
                    total += size
                    z.write(file, f"{own.name}/{file.relative_to(own)}")
