import { randomBytes } from 'node:crypto';
import { hostname } from 'node:os';
import { InvalidArgumentError } from '../errors.ts';
import type { BoundQueue } from '../queue.ts';
import type { QueueDispatcher } from '../queue-dispatcher.ts';
import { ABORT_GRACE_MS } from '../task-runner.ts';

export interface WorkerOptions {
  readonly dispatcher: QueueDispatcher;
  /** Names of queues to work on; default: all that are not sync. */
  readonly queues?: readonly string[];
  /** Handlers that run at once; default 10. */
  readonly concurrency?: number;
  /** Milliseconds of a lease, at least 100; renewed three times within it. Default 30,000. */
  readonly leaseMs?: number;
  /** Longest pause of an idle worker between two looks, in milliseconds; default 1,000. */
  readonly pollIntervalMs?: number;
  /** Ends after so many iterations: a task processed, or a look that found nothing. Needs exactly one queue. */
  readonly limit?: number;
  /** Ends at the first look that finds nothing while nothing is in hand. */
  readonly stopWhenEmpty?: boolean;
  /** Ends gracefully once the process is larger, in MiB resident. */
  readonly memoryLimitMb?: number;
  /** Ends gracefully after so many milliseconds. */
  readonly timeLimitMs?: number;
  /** Milliseconds that running tasks get at the end; default 30,000. */
  readonly shutdownMs?: number;
  /** Milliseconds that aborted handlers get to return; default 5,000. */
  readonly abortGraceMs?: number;
  /** Default: host, process id and a few random characters. */
  readonly workerId?: string;
}

export type WorkerSettings = Required<
  Pick<
    WorkerOptions,
    'concurrency' | 'leaseMs' | 'pollIntervalMs' | 'shutdownMs' | 'abortGraceMs' | 'workerId'
  >
>;

const DEFAULTS = {
  concurrency: 10,
  leaseMs: 30_000,
  pollIntervalMs: 1_000,
  shutdownMs: 30_000,
  abortGraceMs: ABORT_GRACE_MS,
};

/** Smallest sensible value of each number. */
const LEAST = {
  concurrency: 1,
  leaseMs: 100,
  pollIntervalMs: 1,
  shutdownMs: 0,
  abortGraceMs: 0,
  limit: 1,
  memoryLimitMb: 1,
  timeLimitMs: 1,
} as const;

/** @throws InvalidArgumentError `WORKER_OPTIONS_INVALID` naming the option. */
export function workerSettings(options: WorkerOptions): WorkerSettings {
  for (const [name, least] of Object.entries(LEAST) as [keyof typeof LEAST, number][]) {
    const value = options[name];
    if (value !== undefined && !(Number.isInteger(value) && value >= least)) {
      throw new InvalidArgumentError(
        'WORKER_OPTIONS_INVALID',
        `\`${name}\` is a whole number of at least ${least}; got ${value}.`,
      );
    }
  }
  const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
  const workerId = `${hostname()}-${process.pid}-${randomBytes(3).toString('hex')}`;
  return { ...DEFAULTS, workerId, ...given };
}

/** @throws InvalidArgumentError `QUEUE_UNKNOWN`, `WORKER_OPTIONS_INVALID` */
export function chooseQueues({ dispatcher, queues, limit }: WorkerOptions): readonly BoundQueue[] {
  if (limit !== undefined && queues?.length !== 1) {
    throw new InvalidArgumentError(
      'WORKER_OPTIONS_INVALID',
      'A limit of iterations needs a worker on exactly one queue.',
    );
  }
  const names = queues ?? dispatcher.queues.filter((queue) => !queue.isSync).map((queue) => queue.name);
  const sync = names.filter((name) => dispatcher.getQueue(name).isSync);
  if (names.length === 0 || sync.length > 0) {
    const found = names.length === 0 ? 'There is no other queue' : `That is so for ${sync.join(', ')}`;
    throw new InvalidArgumentError(
      'WORKER_OPTIONS_INVALID',
      `Tasks of sync queues run inside \`enqueue\`; no worker can draw them. ${found}.`,
    );
  }
  return names.map((name) => dispatcher.bound(name));
}
