import { InMemoryQueueBroker, InMemoryTaskLogBroker } from '../../brokers/memory.ts';
import type { Clock, Logger, LogLevel } from '../../src/environment.ts';
import { silentLogger } from '../../src/environment.ts';
import { isSignalboxError } from '../../src/errors.ts';
import type { SignalboxError } from '../../src/errors.ts';
import { EventBus } from '../../src/events.ts';
import { Queue } from '../../src/queue.ts';
import type { QueueBroker } from '../../src/queue-broker.ts';
import { QueueDispatcher } from '../../src/queue-dispatcher.ts';
import type { QueueDispatcherOptions } from '../../src/queue-dispatcher.ts';
import { TaskLog } from '../../src/task-log.ts';
import type { TaskLogBroker } from '../../src/task-log-broker.ts';

export interface CoreOptions extends Partial<Omit<QueueDispatcherOptions, 'taskLog'>> {
  /** Carries the queue `main` when no queues are given. */
  readonly queueBroker?: QueueBroker;
  readonly logBroker?: TaskLogBroker;
}

export interface Core {
  readonly queueBroker: QueueBroker;
  readonly logBroker: TaskLogBroker;
  readonly taskLog: TaskLog;
  readonly dispatcher: QueueDispatcher;
}

/** A dispatcher over drivers in memory; unless told otherwise with one queue, `main`, that workers drain. */
export function memoryCore(options: CoreOptions = {}): Core {
  const { queueBroker: givenBroker, logBroker: givenLog, ...rest } = options;
  const clock = rest.clock === undefined ? {} : { clock: rest.clock };
  const queueBroker = givenBroker ?? new InMemoryQueueBroker({ sync: false, ...clock });
  const logBroker = givenLog ?? new InMemoryTaskLogBroker(clock);
  const events = new EventBus(rest.logger ?? silentLogger);
  const taskLog = new TaskLog({ broker: logBroker, events, ...clock });
  const dispatcher = new QueueDispatcher({ queues: [new Queue('main', queueBroker)], ...rest, taskLog });
  return { queueBroker, logBroker, taskLog, dispatcher };
}

/** The error that the call ends with; fails when it ends well or with an error that has no code. */
export async function failureOf(call: () => unknown): Promise<SignalboxError> {
  let answer: unknown;
  try {
    answer = await call();
  } catch (error) {
    if (isSignalboxError(error)) return error;
    throw new Error(`An error without a code: ${String(error)}`, { cause: error });
  }
  throw new Error(`It did not fail but answered ${String(answer)}`);
}

const LOOK_EVERY_MS = 2;
const PATIENCE_MS = 10_000;

/** Resolves once the answer is true; asks for up to 10 s. */
export async function until(what: string, ask: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() + PATIENCE_MS;
  while (!(await ask())) {
    if (performance.now() > deadline) throw new Error(`Not within ${PATIENCE_MS} ms: ${what}`);
    await pause(LOOK_EVERY_MS);
  }
}

/** Ends early, and quietly, when the signal is aborted. */
export function pause(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener('abort', () => {
      clearTimeout(timer);
      resolve();
    });
  });
}

export type Around = (method: string, call: () => unknown, args: readonly unknown[]) => unknown;

/** The same object, with every call of a method led through `around`. */
export function intercepted<T extends object>(target: T, around: Around): T {
  return new Proxy(target, {
    get(object, key) {
      const value: unknown = Reflect.get(object, key, object);
      if (typeof value !== 'function') return value;
      return (...args: unknown[]) => around(String(key), () => Reflect.apply(value, object, args), args);
    },
  });
}

export interface LogLine {
  readonly level: LogLevel;
  readonly bindings: Readonly<Record<string, unknown>>;
  readonly message: string;
}

export interface RecordingLogger extends Logger {
  readonly lines: LogLine[];
}

export function recordingLogger(): RecordingLogger {
  const lines: LogLine[] = [];
  const at =
    (level: LogLevel) =>
    (bindings: object, message = ''): void => {
      lines.push({ level, bindings: { ...bindings }, message });
    };
  const logger: RecordingLogger = {
    lines,
    trace: at('trace'),
    debug: at('debug'),
    info: at('info'),
    warn: at('warn'),
    error: at('error'),
    child: () => logger,
  };
  return logger;
}

/** Real time, and a note of every sleep that was asked for. */
export function notingClock(clock: Clock): Clock & { readonly sleeps: number[] } {
  const sleeps: number[] = [];
  return {
    sleeps,
    now: () => clock.now(),
    monotonic: () => clock.monotonic(),
    sleep: (ms, signal) => {
      sleeps.push(ms);
      return clock.sleep(ms, signal);
    },
  };
}
