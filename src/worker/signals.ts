import type { Worker } from './worker.ts';

const STOP_SIGNALS = ['SIGTERM', 'SIGINT', 'SIGQUIT'] as const;

/**
 * Lets the process's signals reach a worker: SIGTERM, SIGINT and SIGQUIT stop it gracefully, a second one aborts what
 * runs; SIGUSR2 pauses, SIGCONT resumes. Answers the function that takes the listeners away again.
 *
 * SIGCONT also comes after a real SIGSTOP; on a worker that is not paused it does nothing. SIGUSR1 is Node's inspector's.
 */
export function bindSignals(worker: Worker): () => void {
  let stopping = false;
  const stop = (): void => {
    void worker.stop(stopping ? { force: true } : {});
    stopping = true;
  };
  const pause = (): void => worker.pause();
  const resume = (): void => worker.resume();
  for (const signal of STOP_SIGNALS) process.on(signal, stop);
  process.on('SIGUSR2', pause);
  process.on('SIGCONT', resume);
  return () => {
    for (const signal of STOP_SIGNALS) process.off(signal, stop);
    process.off('SIGUSR2', pause);
    process.off('SIGCONT', resume);
  };
}
