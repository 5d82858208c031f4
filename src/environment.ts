import { randomBytes } from 'node:crypto';

/** The outside world that the core may see: time, chance, ids and a place for log lines. */

export interface Clock {
  /** UTC milliseconds. For display and for ids; who holds a lease is judged by the storage's clock. */
  now(): number;
  /** Milliseconds that only ever go forward; for durations and for what is left of a lease. */
  monotonic(): number;
  /** Resolves after `ms`, or at once when `signal` is aborted. Never rejects. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}

/** Uniform in [0, 1). */
export type Random = () => number;

export type LogLevel = 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'fatal';

type LogMethod = (bindings: object, message?: string) => void;

/** The part of pino's logger that is used; any logger of this shape serves. */
export interface Logger {
  readonly trace: LogMethod;
  readonly debug: LogMethod;
  readonly info: LogMethod;
  readonly warn: LogMethod;
  readonly error: LogMethod;
  child(bindings: object): Logger;
}

/** Longest delay that a Node.js timer can hold: 2^31 - 1 ms; a longer one would fire at once. */
const MAX_TIMER_MS = 2_147_483_647;

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  sleep: (ms, signal) =>
    new Promise((resolve) => {
      if (signal?.aborted === true) {
        resolve();
        return;
      }
      const finish = (): void => {
        clearTimeout(timer);
        signal?.removeEventListener('abort', finish);
        resolve();
      };
      // An endless wait ends by its signal only, but still keeps the process alive.
      const timer = setTimeout(finish, Math.min(Math.max(0, ms), MAX_TIMER_MS));
      signal?.addEventListener('abort', finish, { once: true });
    }),
};

const nothing: LogMethod = () => undefined;

export const silentLogger: Logger = {
  trace: nothing,
  debug: nothing,
  info: nothing,
  warn: nothing,
  error: nothing,
  child: () => silentLogger,
};

let lastMs = 0;
let sequence = 0;

/**
 * A UUID version 7 (RFC 9562 section 5.7): 48 bits of UTC milliseconds, then a 12-bit counter so that the ids of one
 * process sort in the order they were made, then 62 random bits. A random key would scatter a clustered index.
 */
export function newId(now: number = Date.now()): string {
  if (now > lastMs) {
    lastMs = now;
    sequence = randomBytes(2).readUInt16BE(0) & 0x3ff;
  } else if (++sequence > 0xfff) {
    lastMs += 1;
    sequence = 0;
  }
  const bytes = randomBytes(16);
  bytes.writeUIntBE(lastMs, 0, 6);
  bytes.writeUInt16BE(0x7000 | sequence, 6);
  bytes.writeUInt8((bytes.readUInt8(8) & 0x3f) | 0x80, 8);
  const hex = bytes.toString('hex');
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}

/** Whether `work` ended, well or badly, before `ms` were over. */
export async function endsWithin(work: Promise<unknown>, ms: number, clock: Clock): Promise<boolean> {
  const timer = new AbortController();
  const ended = work.then(
    () => true,
    () => true,
  );
  const inTime = await Promise.race([ended, clock.sleep(ms, timer.signal).then(() => false)]);
  timer.abort();
  return inTime;
}

/** Resolves when the signal is aborted. */
export function whenAborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
