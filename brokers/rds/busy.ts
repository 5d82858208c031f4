import { sqliteCode } from './sqlite-errors.ts';

/** How long a lock of another process is waited for before the call is given up. */
const MAX_WAIT_MS = 30_000;
const LONGEST_PAUSE_MS = 25;

const BUSY = 5;
/** The transaction read a state that is no longer the last: only the whole transaction can be repeated. */
const BUSY_SNAPSHOT = 517;

function isBusy(error: unknown): boolean {
  const code = sqliteCode(error);
  return code !== undefined && (code & 0xff) === BUSY && code !== BUSY_SNAPSHOT;
}

/** Repeats a statement that found the database locked: it has changed nothing. Pauses are random, so that waiters spread. */
export async function retryBusy<T>(work: () => T | Promise<T>): Promise<T> {
  const giveUpAt = performance.now() + MAX_WAIT_MS;
  for (let pause = 1; ; pause = Math.min(pause * 2, LONGEST_PAUSE_MS)) {
    try {
      return await work();
    } catch (error) {
      if (!isBusy(error) || performance.now() >= giveUpAt) throw error;
    }
    const pauseMs = pause * (0.5 + Math.random());
    await new Promise((resolve) => setTimeout(resolve, pauseMs));
  }
}
