/**
 * Every error that Signalbox throws has a code from this table. `doc/errors.md` is generated from it, and the command
 * line prints the cause and the mend beside the message.
 */
export const ERRORS = {
  // Configuration and wiring
  CONFIG_NOT_FOUND: {
    cause: 'No configuration file in this folder or above it.',
    mend: 'Name one with --config=PATH or SIGNALBOX_CONFIG, or create signalbox.config.js.',
  },
  CONFIG_UNREADABLE: {
    cause: 'The configuration file cannot be read, parsed or loaded.',
    mend: 'Mend the place that the message names; run it alone with `node FILE` to see the whole error.',
  },
  CONFIG_INVALID: {
    cause: 'A setting is missing, misspelt or of the wrong kind.',
    mend: 'Correct the setting at the path that the message names.',
  },
  INVALID_ARGUMENT: {
    cause: 'A function was called with a value that it does not take.',
    mend: 'Pass what the message asks for.',
  },
  QUEUES_MISSING: {
    cause: 'A dispatcher needs at least one queue.',
    mend: 'Set the option `queues` to a list of queues.',
  },
  QUEUE_NAME_INVALID: {
    cause: 'The name is empty, too long, or holds characters that a broker cannot store.',
    mend: 'Use 1 to 64 letters, digits, hyphens and underscores.',
  },
  QUEUE_DUPLICATE: {
    cause: 'Two queues have the same name, or names that differ only in case.',
    mend: 'Give each queue in the option `queues` a name of its own.',
  },
  QUEUE_NAME_COLLISION: {
    cause: 'The queue would share its physical name with the container of the task log.',
    mend: 'Rename the queue, or the container of the task log.',
  },
  QUEUE_UNKNOWN: {
    cause: 'No queue of that name is configured.',
    mend: 'Use one of the names that the message lists, or add the queue to the configuration.',
  },
  SELECTOR_INVALID: {
    cause: 'The object is no queue selector: it lacks the method `deal`.',
    mend: 'Pass `new WeightedSelector()`, `new StrictPrioritySelector()` or an object with a method `deal`.',
  },
  BROKER_UNKNOWN: {
    cause: 'No broker of that type is known.',
    mend: 'Use one of the types that the message lists.',
  },
  PERSISTENCE_UNKNOWN: {
    cause: 'A broker names a persistence that the configuration does not have.',
    mend: 'Add it to `persistences`, or name one of those that the message lists.',
  },
  SHARED_QUEUE_NEEDS_SHARED_LOG: {
    cause:
      'Other processes consume this queue, but the task log lives in the memory of this one, so it could guard nothing.',
    mend: 'Give the task log a broker on a database.',
  },
  DRIVER_MISSING: {
    cause: 'The package that talks to this database is not installed.',
    mend: 'Install the package that the message names.',
  },

  // Tasks
  TASK_NAME_INVALID: {
    cause: 'The name is empty, too long, or the class is anonymous.',
    mend: 'Give the class a name, or set `static override readonly taskName`; at most 200 printable characters.',
  },
  TASK_DUPLICATE: {
    cause: 'Two different tasks use the same name or alias.',
    mend: 'Rename one of them; a name stands for one task for ever.',
  },
  TASK_UNKNOWN: {
    cause: 'This process does not know a task of that name.',
    mend: 'Register the task: list its file under `tasks` in the configuration, or call `registry.register`.',
  },
  TASK_NOT_SERIALISABLE: {
    cause: 'A function without a registered name cannot travel to a worker.',
    mend: 'Wrap it with `defineTask`, or use an Action class.',
  },
  PARAMETERS_NOT_JSON: {
    cause: 'The parameters hold something that JSON cannot carry.',
    mend: 'Pass plain objects, arrays, strings, finite numbers, booleans and null; convert dates and big integers to strings.',
  },
  PARAMETERS_INVALID: {
    cause: "The task's validator refused the parameters.",
    mend: 'Pass parameters that match the schema of the task.',
  },
  PAYLOAD_TOO_LARGE: {
    cause: 'The task as text is larger than its broker can carry.',
    mend: 'Store the data elsewhere and pass a reference.',
  },
  LABEL_TOO_LONG: {
    cause: 'A label may have 255 characters.',
    mend: 'Shorten it; details belong into the parameters.',
  },
  HEADERS_INVALID: {
    cause: 'Headers are a map of strings, at most 64 entries and 16 KiB in all.',
    mend: 'Pass strings only, and less of them.',
  },
  RESULT_NOT_JSON: {
    cause: 'The handler returned something that JSON cannot carry.',
    mend: 'Return a Report, or plain JSON data.',
  },
  ENVELOPE_INVALID: {
    cause: 'The message was not written by Signalbox, or it was damaged.',
    mend: 'Look at the raw body in the task log; send it again once its source is mended.',
  },
  ENVELOPE_TOO_NEW: {
    cause: 'The message was written by a newer version of Signalbox.',
    mend: 'Upgrade this worker.',
  },

  // Enqueueing
  ENQUEUE_FAILED: {
    cause: 'The storage refused the task; nothing will run.',
    mend: 'See the cause; enqueue again once the storage is back.',
  },
  ENQUEUE_UNCERTAIN: {
    cause: 'The storage did not answer, so the task may or may not have been accepted.',
    mend: 'Look its id up in the task log before you enqueue it again.',
  },
  TRANSACTION_UNSUPPORTED: {
    cause: 'The task log of this queue lives in no database, so nothing can join a transaction.',
    mend: 'Give the task log a broker on the database of the transaction.',
  },
  FOREIGN_TRANSACTION: {
    cause: 'The transaction belongs to another database than the task log.',
    mend: 'Pass a knex transaction on the same database.',
  },

  // Brokers
  NOT_INITIALIZED: {
    cause: 'The tables or queues have not been created yet.',
    mend: 'Run `initialize-queue`, or call `dispatcher.initialize()` and `taskLog.createContainer()`.',
  },
  SCHEMA_TOO_NEW: {
    cause: 'The tables were migrated by a newer version of Signalbox.',
    mend: 'Upgrade this process.',
  },
  DATABASE_READ_ONLY: {
    cause: 'The database, its file or its folder cannot be written.',
    mend: 'Check the rights of the file and its folder, and whether the disk is mounted read-only.',
  },
  DATABASE_MISSING: {
    cause: 'The database or the folder of its file does not exist.',
    mend: 'Create it, or correct the connection in `persistences`.',
  },
  BROKER_UNAVAILABLE: {
    cause: 'The storage cannot be reached, or did not answer in time.',
    mend: 'Check that it runs and that the connection settings are right; workers go on by themselves when it is back.',
  },
  BROKER_FAILED: {
    cause: 'The storage refused the operation.',
    mend: 'See the cause.',
  },
  BROKER_CLOSED: {
    cause: 'The broker was used after it was closed.',
    mend: 'Close it after the last call.',
  },

  // Running
  TASK_FAILED: {
    cause: 'The task ended with a failure report.',
    mend: 'Read its report with `task-log --get-task=ID`.',
  },
  TASK_CANCELLED: {
    cause: 'Somebody cancelled the task.',
    mend: 'Enqueue it again if that was a mistake.',
  },
  TASK_TIMED_OUT: {
    cause: 'The handler took longer than its timeout.',
    mend: 'Raise `timeoutMs`, or make the handler stop when `context.signal` is aborted.',
  },
  TASK_CRASHED: {
    cause: 'The worker died, or lost its claim, while it ran the task, more often than `maxLapses` allows.',
    mend: 'Look for memory exhaustion or a blocked event loop in the worker, then enqueue the task again.',
  },
  CLAIM_LOST: {
    cause: 'Another worker took the task over, or an operator ended it, while it ran here.',
    mend: 'Nothing to do: what this run would have written was refused. Raise `leaseMs` when it happens often.',
  },
  WORKER_STOPPING: {
    cause: 'The worker was told to stop and its shutdown time is over.',
    mend: 'Nothing to do: the task is given back and another worker runs it. Raise `shutdownMs` when it needs longer.',
  },
  ROW_GONE: {
    cause: 'A message came without its row in the task log, and it is too old to be adopted.',
    mend: 'Check whether rows were deleted by hand or a backup was restored.',
  },
  TASK_NOT_FOUND: {
    cause: 'The task log has no row of that id.',
    mend: 'Check the id; `task-log --available` lists the tasks.',
  },
  CHANGE_REFUSED: {
    cause: 'The status of the task does not allow it.',
    mend: 'Wait until the task has ended, or repeat with --force.',
  },
  RESULT_TIMEOUT: {
    cause: 'The task had not ended within the time given.',
    mend: 'Wait longer, or check that a worker runs on its queue.',
  },
  SERVICE_UNKNOWN: {
    cause: 'No service is bound to that token.',
    mend: 'Bind it where the container is built.',
  },
  REPORT_INVALID: {
    cause: 'The data is no report.',
    mend: 'A report has a type (info, success, warning or error), a message and data.',
  },

  // Worker and command line
  WORKER_OPTIONS_INVALID: {
    cause: 'The options of the worker contradict each other.',
    mend: 'Correct the option that the message names.',
  },
  WORKER_CRASHED: {
    cause:
      'Code of a task, or of a library, ended the process, or threw an error where nobody could catch it.',
    mend: 'Let tasks return or throw instead, and await every promise; --log-level=debug shows the stack. What was running is run again once its claims have lapsed.',
  },
  USAGE: {
    cause: 'The command line is not understood.',
    mend: 'See --help.',
  },
} as const;

export type ErrorCode = keyof typeof ERRORS;

/** Where it happened. */
export interface ErrorPlace {
  readonly task?: string;
  readonly taskName?: string;
  readonly queue?: string;
  readonly worker?: string;
  readonly broker?: string;
  readonly operation?: string;
}

export interface ErrorOptions {
  readonly cause?: unknown;
  readonly place?: ErrorPlace;
  /** Instead of the table's general advice. */
  readonly mend?: string;
}

const BRAND: symbol = Symbol.for('signalbox.error');

export class SignalboxError extends Error {
  readonly code: ErrorCode;
  readonly place: ErrorPlace;
  /** What to do next. */
  readonly mend: string;

  constructor(code: ErrorCode, message: string, options: ErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = new.target.name;
    this.code = code;
    this.place = options.place ?? {};
    this.mend = options.mend ?? ERRORS[code].mend;
    Object.defineProperty(this, BRAND, { value: true });
  }

  /** The usual reason for this code. */
  get likelyCause(): string {
    return ERRORS[this.code].cause;
  }
}

/** A wrong setting, or wiring that cannot work. */
export class ConfigurationError extends SignalboxError {}

/** A wrong value passed to a function. */
export class InvalidArgumentError extends SignalboxError {}

/** The storage failed or refused. `transient`: the same call may go through later. */
export class BrokerError extends SignalboxError {
  readonly transient: boolean;

  constructor(
    code: ErrorCode,
    message: string,
    options: ErrorOptions & { readonly transient?: boolean } = {},
  ) {
    super(code, message, options);
    this.transient = options.transient ?? code === 'BROKER_UNAVAILABLE';
  }
}

/** Of several tasks enqueued together some were not accepted; the others were. */
export class EnqueueError extends BrokerError {
  /** Why, by the id of the task: `ENQUEUE_FAILED` or `ENQUEUE_UNCERTAIN`. */
  readonly refusals: ReadonlyMap<string, BrokerError>;
  /** The ids that were new, refused or not. */
  readonly added: readonly string[];

  constructor(queue: string, added: readonly string[], refusals: ReadonlyMap<string, BrokerError>) {
    const tasks = [...refusals.keys()];
    const errors = [...refusals.values()];
    const uncertain = errors.some((error) => error.code === 'ENQUEUE_UNCERTAIN');
    super(
      uncertain ? 'ENQUEUE_UNCERTAIN' : 'ENQUEUE_FAILED',
      `Queue "${queue}" did not accept the tasks ${tasks.join(', ')}.`,
      { cause: errors.length === 1 ? errors[0] : new AggregateError(errors), place: { queue } },
    );
    this.refusals = refusals;
    this.added = added;
  }
}

/** A message that cannot be read. */
export class DecodeError extends SignalboxError {}

/** A task that cannot be accepted, or that did not end well. */
export class TaskError extends SignalboxError {}

const NON_RETRYABLE: symbol = Symbol.for('signalbox.non-retryable');

/** Throw it, or a subclass, from a handler when trying again cannot help: the task fails at once. */
export class NonRetryableError extends Error {
  constructor(message: string, options?: { readonly cause?: unknown }) {
    super(message, options);
    this.name = new.target.name;
    Object.defineProperty(this, NON_RETRYABLE, { value: true });
  }
}

/** By brand, since two copies of this package in one process are common. */
export function isSignalboxError(value: unknown): value is SignalboxError {
  return typeof value === 'object' && value !== null && BRAND in value;
}

/** An error of the storage. */
export function isBrokerError(value: unknown): value is BrokerError {
  return isSignalboxError(value) && 'transient' in value;
}

/** Says of each task of a batch whether it was accepted. */
export function isEnqueueError(value: unknown): value is EnqueueError {
  return isBrokerError(value) && 'refusals' in value;
}

/** The same call may go through later. */
export function isTransient(value: unknown): boolean {
  return isBrokerError(value) && value.transient;
}

export function isNonRetryable(value: unknown): boolean {
  return typeof value === 'object' && value !== null && NON_RETRYABLE in value;
}

/** What was thrown, in words. Never throws itself: handlers throw the oddest things. */
export function errorMessage(value: unknown): string {
  return readSafely(() => {
    const message: unknown = value instanceof Error ? value.message : value;
    return typeof message === 'object' && message !== null ? JSON.stringify(message) : String(message);
  }, 'a value that cannot be read');
}

/** The class of what was thrown. Never throws itself. */
export function errorName(value: unknown): string {
  return readSafely(() => (value instanceof Error ? value.name : typeof value), 'Error');
}

/** The stack, else the message. Never throws itself. */
export function errorStack(value: unknown): string {
  return readSafely(() => (value instanceof Error ? value.stack : undefined), errorMessage(value));
}

function readSafely(read: () => unknown, otherwise: string): string {
  try {
    const found = read();
    return typeof found === 'string' ? found : otherwise;
  } catch {
    return otherwise;
  }
}
