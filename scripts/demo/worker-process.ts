import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { CONFIG_FILE, WORKER_LOG } from './state.ts';

const RUN_WORKER = join(import.meta.dirname, '..', 'run-worker.js');
const MAX_KILLED = 3;
/** Far beyond any run: ends a worker whose demo was killed. */
const TIME_LIMIT_SECONDS = 40;
const STOP_WITHIN_MS = 6_000;

/** The command `run-worker` as a process of its own. */
export class WorkerProcess {
  readonly #onKilled: (signal: string) => void;
  #child: ChildProcess;
  #killed = 0;

  /** @param onKilled Told when it was killed and another one was started. */
  constructor(onKilled: (signal: string) => void) {
    this.#onKilled = onKilled;
    this.#child = startWorker();
  }

  /** Starts another one in place of one that was killed. Throws when it failed by itself. */
  ensureRunning(): void {
    const { exitCode, signalCode } = this.#child;
    if (exitCode === null && signalCode === null) return;
    if (exitCode !== null && exitCode !== 0) {
      throw new Error(`The worker ended with exit code ${exitCode}; ${WORKER_LOG} says why.`);
    }
    if (signalCode !== null) {
      this.#killed += 1;
      if (this.#killed > MAX_KILLED)
        throw new Error(`The worker was killed again and again (${signalCode}).`);
      this.#onKilled(signalCode);
    }
    this.#child = startWorker();
  }

  /** Lets it end what it has begun; resolves when the process has ended. */
  async stop(): Promise<void> {
    const { exitCode, signalCode } = this.#child;
    if (exitCode !== null || signalCode !== null) return;
    const exited = once(this.#child, 'exit');
    this.#child.kill('SIGTERM');
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), STOP_WITHIN_MS);
    await exited;
    clearTimeout(timer);
  }
}

/** In a process group of its own: Ctrl-C reaches the demo only, which asks the worker once to end. */
function startWorker(): ChildProcess {
  const log = openSync(WORKER_LOG, 'a');
  const child = spawn(
    process.execPath,
    [RUN_WORKER, `--config=${CONFIG_FILE}`, `--time-limit=${TIME_LIMIT_SECONDS}`],
    { detached: true, stdio: ['ignore', log, log] },
  );
  closeSync(log);
  return child;
}
