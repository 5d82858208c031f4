import type { Clock } from './environment.ts';
import { InvalidArgumentError } from './errors.ts';
import type { NewTask } from './ledger.ts';
import { checkDuration, checkRunOptions, checkText, RUN_OPTIONS } from './options.ts';
import type { Queue } from './queue.ts';
import type { RetryOptions } from './retry.ts';
import type { Task } from './task.ts';
import { checkJson, encodeEnvelope } from './task-envelope.ts';
import type { Envelope } from './task-envelope.ts';

export interface EnqueueOptions {
  /** What people read in lists; at most 255 characters. Default: the task's own label. */
  readonly label?: string;
  /** Goes before everything else that chooses a queue. */
  readonly queue?: string;
  /** Milliseconds until the task is due. */
  readonly delayMs?: number;
  /** When the task is due: a date or UTC milliseconds of this process's clock. Instead of `delayMs`. */
  readonly runAt?: Date | number;
  /** Higher first inside the queue; default the task's, else 0. */
  readonly priority?: number;
  readonly owner?: string;
  readonly category?: string;
  readonly group?: string;
  /** Reach the handler as `context.headers`: trace ids, a tenant, a locale. At most 64 strings, 16 KiB in all. */
  readonly headers?: Readonly<Record<string, string>>;
  readonly retry?: RetryOptions;
  /** Milliseconds for one run; 0: none. */
  readonly timeoutMs?: number;
  /** The caller's own transaction on the task log's database (a knex one): the task is there when, and only when, it commits. */
  readonly transaction?: unknown;
}

export const ENQUEUE_OPTIONS: readonly string[] = [
  ...RUN_OPTIONS,
  'label',
  'queue',
  'delayMs',
  'runAt',
  'priority',
  'owner',
  'category',
  'group',
  'headers',
  'transaction',
];
const MAX_HEADERS = 64;
const MAX_HEADER_BYTES = 16_384;
const MAX_PRIORITY = 32_767;

/** A task as it is stored: its row and its message. Throws before anything is written when it cannot be carried. */
export function toNewTask(
  task: Task,
  queue: Queue,
  options: EnqueueOptions,
  owner: string | null,
  clock: Clock,
): NewTask {
  checkRunOptions(options, 'enqueue');
  const envelope = toEnvelope(task, options, owner, clock);
  const delayMs = delayOf(options, clock);
  const body = encodeEnvelope(envelope);
  checkSize(body, queue, envelope);
  const { id, taskName, label, category, parentId, masterStatus, priority, group } = envelope;
  return {
    entry: {
      id,
      queue: queue.name,
      taskName,
      label,
      owner: envelope.owner,
      category,
      parentId,
      masterStatus,
      priority,
      group,
      envelope: body,
      delayMs,
    },
    message: { id, body, delayMs, priority, ...(group === null ? {} : { group }) },
  };
}

function toEnvelope(task: Task, options: EnqueueOptions, owner: string | null, clock: Clock): Envelope {
  const { definition } = task;
  const own = definition.options;
  const priority = options.priority ?? own.priority ?? 0;
  if (!Number.isInteger(priority) || Math.abs(priority) > MAX_PRIORITY) {
    throw new InvalidArgumentError(
      'INVALID_ARGUMENT',
      `A priority is an integer from -${MAX_PRIORITY} to ${MAX_PRIORITY}; got ${priority}.`,
    );
  }
  return {
    version: 1,
    id: task.id,
    taskName: definition.name,
    parameters: checkJson(task.parameters ?? null, 'parameters'),
    label: checkText('The label', options.label ?? task.label, 'LABEL_TOO_LONG'),
    owner: options.owner === undefined ? owner : checkText('The owner', options.owner),
    category: textOrNull('The category', options.category ?? own.category),
    parentId: null,
    masterStatus: false,
    priority,
    group: textOrNull('The group', options.group),
    payloadVersion: own.payloadVersion ?? 1,
    headers: checkHeaders(options.headers ?? {}),
    createdAt: clock.now(),
    ...(options.retry === undefined ? {} : { retry: options.retry }),
    ...(options.timeoutMs === undefined ? {} : { timeoutMs: options.timeoutMs }),
  };
}

function textOrNull(name: string, text: string | undefined): string | null {
  return text === undefined ? null : checkText(name, text);
}

function delayOf({ delayMs, runAt }: EnqueueOptions, clock: Clock): number {
  if (delayMs !== undefined && runAt !== undefined) {
    throw new InvalidArgumentError('INVALID_ARGUMENT', 'Give either `delayMs` or `runAt`, not both.');
  }
  if (runAt === undefined) return checkDuration('`delayMs`', delayMs) ?? 0;
  const due = Number(runAt);
  if (!Number.isFinite(due))
    throw new InvalidArgumentError('INVALID_ARGUMENT', `\`runAt\` is no valid date: ${String(runAt)}.`);
  return Math.max(0, Math.round(due - clock.now()));
}

function checkHeaders(headers: Readonly<Record<string, string>>): Readonly<Record<string, string>> {
  const entries = Object.entries(headers);
  const bytes = Buffer.byteLength(JSON.stringify(headers) ?? '');
  const odd = entries.find(([, value]) => typeof value !== 'string');
  if (odd !== undefined || entries.length > MAX_HEADERS || bytes > MAX_HEADER_BYTES) {
    const found =
      odd === undefined
        ? `${entries.length} entries of ${bytes} bytes`
        : `${odd[0]} of type ${typeof odd[1]}`;
    throw new InvalidArgumentError(
      'HEADERS_INVALID',
      `Headers are strings only, at most ${MAX_HEADERS} and ${MAX_HEADER_BYTES} bytes; got ${found}.`,
    );
  }
  return { ...headers };
}

function checkSize(body: string, queue: Queue, { id, taskName }: Envelope): void {
  const bytes = Buffer.byteLength(body);
  const { maxBodyBytes } = queue.broker.capabilities;
  if (bytes <= maxBodyBytes) return;
  throw new InvalidArgumentError(
    'PAYLOAD_TOO_LARGE',
    `Task "${taskName}" takes ${bytes} bytes; queue "${queue.name}" carries at most ${maxBodyBytes}.`,
    { place: { task: id, taskName, queue: queue.name, broker: queue.broker.id } },
  );
}
