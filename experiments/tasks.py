"""Tasks that wait for one another, done one after the other, in several processes of this machine, or on Ray."""
import concurrent.futures, multiprocessing, os, signal, sys, threading
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

import torch
from tqdm.auto import tqdm

from ncib.core import InputError


@dataclass(frozen=True)
class Task:
    "One step of the work. `call` is picklable and gets the results of the tasks it needs."
    name: str
    call: Callable
    needs: tuple[int, ...] = () # positions of earlier tasks in the list


def run_tasks(tasks: list, # of `Task`, or anything with its three fields
              workers: int = 1, # processes; one: here, in turn
              ray: bool = False, # on the Ray cluster that is running, instead
              gpu: bool = False, # with Ray: a GPU for each task
              progress: bool = True)->list: # results, in the order of the tasks
    """All results. When some tasks fail the rest is still done, and an `InputError` names each; what needs a failed
    task is left out."""
    done, failed = {}, {}
    steps = _on_ray(tasks, gpu) if ray else _in_processes(tasks, workers) if workers > 1 else _in_turn(tasks)
    with tqdm(total=len(tasks), unit="task", disable=not progress) as bar:
        try:
            for i, result in steps:
                (failed if isinstance(result, Exception) else done)[i] = result
                bar.set_description(tasks[i].name, refresh=False); bar.update()
                if failed: bar.set_postfix(failed=len(failed))
        finally: steps.close()
    own = {i: e for i, e in sorted(failed.items()) if not any(j in failed for j in tasks[i].needs)}
    if own:
        told = "".join(f"\n  {tasks[i].name}: {e if isinstance(e, InputError) else f'{type(e).__name__}: {e}'}"
                       for i, e in own.items())
        raise InputError(f"{len(own)} of {len(tasks)} tasks failed; the same command tries them "
                         f"again:{told}") from own[min(own)]
    return [done[i] for i in range(len(tasks))]


def _attempt(call, needs):
    "The result, or the exception as one: that of a failed need is passed on."
    for n in needs:
        if isinstance(n, Exception): return n
    try: return call(*needs)
    except Exception as e: return e


def _in_turn(tasks)->Iterator[tuple[int, object]]:
    results = []
    for i, task in enumerate(tasks):
        results.append(_attempt(task.call, [results[j] for j in task.needs]))
        yield i, results[-1]


def _alone():
    "A worker: one thread, deaf to Ctrl-C (the parent ends it), and gone when the parent is, however that ended."
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    parent = multiprocessing.parent_process()
    def follow():
        parent.join()
        os._exit(1)
    threading.Thread(target=follow, daemon=True).start()


def _in_processes(tasks, workers)->Iterator[tuple[int, object]]:
    before = set(multiprocessing.active_children())
    threads = {v: os.environ.get(v) for v in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    # read by a worker's libraries when they are loaded, before `_alone`
    os.environ.update(dict.fromkeys(threads, "1"))
    pool = concurrent.futures.ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _alone)
    results, running, left = {}, {}, list(range(len(tasks)))
    def submit():
        "Hands out every task whose needs are there; one whose need failed is settled at once."
        settled = []
        for i in list(left):
            if not all(j in results for j in tasks[i].needs): continue
            left.remove(i)
            needs = [results[j] for j in tasks[i].needs]
            if broken := next((n for n in needs if isinstance(n, Exception)), None):
                results[i] = broken
                settled.append(i)
            else: running[pool.submit(tasks[i].call, *needs)] = i
        return settled
    try:
        while True:
            while settled := submit(): yield from ((i, results[i]) for i in settled)
            if not running: break
            ready, _ = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
            for future in ready:
                i = running.pop(future)
                error = future.exception()
                if isinstance(error, BrokenProcessPool): raise error
                results[i] = error or future.result()
                yield i, results[i]
    except BaseException as e:                                 # an error or Ctrl-C: nothing goes on in the background
        pool.shutdown(wait=False, cancel_futures=True)
        for child in set(multiprocessing.active_children()) - before: child.terminate()
        if not isinstance(e, BrokenProcessPool): raise
        raise InputError(f"a process ended abruptly, perhaps for want of memory (--workers was {workers}); the same "
                         "command goes on") from e
    finally:
        pool.shutdown()
        for v, was in threads.items():
            if was is None: os.environ.pop(v, None)
            else: os.environ[v] = was


def _on_ray(tasks, gpu)->Iterator[tuple[int, object]]:
    import ray as cluster
    path = list(sys.path)
    def work(call, *needs):
        sys.path.extend(p for p in path if p not in sys.path)
        torch.set_num_threads(1)
        return _attempt(call, needs)
    remote = cluster.remote(work).options(num_cpus=1, num_gpus=int(gpu))
    waiting = []
    for task in tasks: waiting.append(remote.remote(task.call, *[waiting[j] for j in task.needs]))
    at = {ref: i for i, ref in enumerate(waiting)}
    try:
        while waiting:
            (ref,), waiting = cluster.wait(waiting)
            try: result = cluster.get(ref)
            except Exception as e: result = e
            yield at[ref], result
    finally:
        for ref in waiting: cluster.cancel(ref, force=True)
