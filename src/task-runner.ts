import { endsWithin } from './environment.ts';
import type { Clock, Logger, Random } from './environment.ts';
import { errorMessage, isNonRetryable, isSignalboxError, TaskError } from './errors.ts';
import type { EventBus } from './events.ts';
import type { TaskExecutor } from './executor.ts';
import type { Queue } from './queue.ts';
import { isReport, Report } from './report.ts';
import { backoffMs, resolveRetry } from './retry.ts';
import type { RetryOptions, RetryPolicy } from './retry.ts';
import type { TaskContext, TaskDefinition, Token } from './task.ts';
import { decodeEnvelope } from './task-envelope.ts';
import type { Envelope } from './task-envelope.ts';
import { checkJson } from './task-envelope.ts';
import type { TaskLines } from './task-lines.ts';
import type { HeldTask, Settlement } from './task-log-broker.ts';
import type { TaskRegistry } from './task-registry.ts';
import { validateParameters } from './task-registry.ts';

/** A task under a live claim. */
export interface LeasedTask {
  readonly held: HeldTask;
  readonly queue: Queue;
  /** The envelope as text. */
  readonly body: string;
  readonly attempts: number;
  readonly lapses: number;
  readonly unknowns: number;
}

/** A leased task that this process can run. */
export interface RunnableTask {
  readonly leased: LeasedTask;
  readonly envelope: Envelope;
  readonly definition: TaskDefinition;
  readonly policy: RetryPolicy;
  readonly timeoutMs: number;
  readonly attempt: number;
}

export interface RunEnd {
  /** What to write; absent when the claim is lost, so that nothing may be written. */
  readonly settlement?: Settlement;
  /** The handler ignored its abort; resolves when it returns at last. */
  readonly stillRunning?: Promise<void>;
  readonly report?: Report;
  readonly error?: unknown;
  readonly durationMs: number;
}

/** The caller's side of a run. */
export interface RunControl {
  readonly workerId: string;
  /** Ends the run from outside. */
  readonly abort: AbortController;
  /** Milliseconds that an aborted handler gets to return; default 5,000. */
  readonly abortGraceMs?: number;
}

export interface Services {
  /** @throws SignalboxError `SERVICE_UNKNOWN` */
  get<T>(token: Token<T>): T;
}

export interface TaskDefaults {
  readonly retry?: RetryOptions;
  /** Milliseconds for one run; 0 or absent: no timeout. */
  readonly timeoutMs?: number;
}

export interface TaskRunnerOptions {
  readonly registry: TaskRegistry;
  readonly executor: TaskExecutor;
  readonly lines: TaskLines;
  readonly services: Services;
  readonly defaults: TaskDefaults;
  readonly events: EventBus;
  readonly logger: Logger;
  readonly clock: Clock;
  readonly random: Random;
}

type HandlerEnd =
  | { readonly kind: 'returned'; readonly value: unknown }
  | { readonly kind: 'threw'; readonly error: unknown };

/** A message whose task nobody here knows waits 5 s, then doubling up to 5 min, for a worker that does. */
const UNKNOWN_FIRST_MS = 5_000;
const UNKNOWN_LONGEST_MS = 300_000;
/** About eight hours of waiting: a rolling deployment is long over. */
const MAX_UNKNOWNS = 100;
/** How long a handler may take to end after its `signal` was aborted. */
export const ABORT_GRACE_MS = 5_000;
const MAX_MESSAGE_LENGTH = 2_000;

/** One leased task from claim to settlement: the only execution path. It decides; its caller writes. */
export class TaskRunner {
  readonly #options: TaskRunnerOptions;

  constructor(options: TaskRunnerOptions) {
    this.#options = options;
  }

  /** What can be said before the handler is called: the task is runnable, or this is how it ends. */
  prepare(leased: LeasedTask): RunnableTask | Settlement {
    let envelope: Envelope;
    try {
      envelope = decodeEnvelope(leased.body);
    } catch (error) {
      if (isSignalboxError(error) && error.code === 'ENVELOPE_TOO_NEW')
        return this.#giveBackUnknown(leased, error);
      return fail(leased.held, 'UNDECODABLE', errorReport(error, leased.attempts + 1));
    }
    const definition = this.#options.registry.find(envelope.taskName);
    if (definition === undefined) {
      const place = { task: envelope.id, taskName: envelope.taskName, queue: leased.queue.name };
      const error = new TaskError(
        'TASK_UNKNOWN',
        `No task is registered as "${envelope.taskName}" in this worker.`,
        { place },
      );
      return this.#giveBackUnknown(leased, error);
    }
    return this.#runnable(leased, envelope, definition);
  }

  /** Calls the handler, under its timeout, and says what to write. */
  async run(
    task: RunnableTask,
    { workerId, abort, abortGraceMs = ABORT_GRACE_MS }: RunControl,
  ): Promise<RunEnd> {
    const { clock } = this.#options;
    const startedAt = clock.monotonic();
    let hasEnded = false;
    const handler = this.#call(task, this.#context(task, workerId, abort.signal)).finally(
      () => (hasEnded = true),
    );
    const inTime = task.timeoutMs === 0 || (await endsWithin(handler, task.timeoutMs, clock));
    const end = inTime ? await handler : await this.#timeOut(task, handler, abort, abortGraceMs);
    // A handler that goes on in spite of its abort must not soon run beside itself.
    const leastWaitMs = hasEnded ? 0 : abortGraceMs;
    const outcome = this.#outcome(task, end, abort.signal, leastWaitMs);
    const stillRunning = hasEnded ? {} : { stillRunning: handler.then(() => undefined) };
    return { ...outcome, ...stillRunning, durationMs: clock.monotonic() - startedAt };
  }

  #runnable(leased: LeasedTask, envelope: Envelope, definition: TaskDefinition): RunnableTask | Settlement {
    const { defaults } = this.#options;
    const { queue, attempts, lapses } = leased;
    const policy = resolveRetry(
      defaults.retry,
      queue.options.retry,
      definition.options.retry,
      envelope.retry,
    );
    if (lapses >= (policy.onCrash === 'fail' ? 1 : policy.maxLapses)) {
      const error = new TaskError(
        'TASK_CRASHED',
        `The worker that ran the task died ${lapses} time(s); it is not tried again.`,
      );
      return fail(leased.held, 'CRASHED', errorReport(error, attempts + lapses));
    }
    const timeoutMs =
      envelope.timeoutMs ??
      definition.options.timeoutMs ??
      queue.options.timeoutMs ??
      defaults.timeoutMs ??
      0;
    return { leased, envelope, definition, policy, timeoutMs, attempt: attempts + lapses + 1 };
  }

  #giveBackUnknown(leased: LeasedTask, error: unknown): Settlement {
    const { held, queue, unknowns } = leased;
    if (unknowns >= MAX_UNKNOWNS) return fail(held, 'UNKNOWN_TASK', errorReport(error, leased.attempts + 1));
    const afterMs = Math.min(UNKNOWN_FIRST_MS * 2 ** unknowns, UNKNOWN_LONGEST_MS);
    this.#options.logger.warn({ task: held.id, queue: queue.name, afterMs }, errorMessage(error));
    return { task: held, kind: 'give-back', afterMs, unknown: true };
  }

  async #call({ definition, envelope }: RunnableTask, context: TaskContext): Promise<HandlerEnd> {
    try {
      const parameters = await validateParameters(definition, envelope.parameters);
      return {
        kind: 'returned',
        value: await this.#options.executor.execute({ definition, parameters, context }),
      };
    } catch (error) {
      return { kind: 'threw', error };
    }
  }

  /** The handler's own end within the grace still counts as timed out. */
  async #timeOut(
    task: RunnableTask,
    handler: Promise<HandlerEnd>,
    abort: AbortController,
    abortGraceMs: number,
  ): Promise<HandlerEnd> {
    const { leased, timeoutMs, definition } = task;
    const error = new TaskError(
      'TASK_TIMED_OUT',
      `Task "${definition.name}" took longer than ${timeoutMs} ms.`,
      {
        place: { task: leased.held.id, taskName: definition.name, queue: leased.queue.name },
      },
    );
    abort.abort(error);
    await endsWithin(handler, abortGraceMs, this.#options.clock);
    return { kind: 'threw', error };
  }

  #outcome(
    task: RunnableTask,
    end: HandlerEnd,
    signal: AbortSignal,
    leastWaitMs: number,
  ): Omit<RunEnd, 'stillRunning' | 'durationMs'> {
    const reason = abortCode(signal);
    if (reason === 'CLAIM_LOST') return {};
    const { held } = task.leased;
    if (end.kind === 'returned') {
      const report = this.#reportOf(task, end.value);
      const kind = report.isFailure() ? 'failed' : 'completed';
      return { settlement: { task: held, kind, report: JSON.stringify(report) }, report };
    }
    if (reason === 'TASK_CANCELLED') {
      const report = Report.createInfo('The task was cancelled while it ran.');
      return { settlement: { task: held, kind: 'cancelled', report: JSON.stringify(report) }, report };
    }
    if (reason === 'WORKER_STOPPING') return { settlement: { task: held, kind: 'give-back', afterMs: 0 } };
    return this.#retryOrFail(task, end.error, leastWaitMs);
  }

  #retryOrFail(
    task: RunnableTask,
    error: unknown,
    leastWaitMs: number,
  ): Omit<RunEnd, 'stillRunning' | 'durationMs'> {
    const { leased, policy, attempt } = task;
    const run = leased.attempts + 1;
    const isTimeout = isSignalboxError(error) && error.code === 'TASK_TIMED_OUT';
    const isInvalid = isSignalboxError(error) && error.code === 'PARAMETERS_INVALID';
    const isFinal = isNonRetryable(error) || isInvalid;
    if (!isFinal && run < policy.maxAttempts) {
      const afterMs = Math.max(backoffMs(policy, run, this.#options.random), leastWaitMs);
      return { settlement: { task: leased.held, kind: 'retry', afterMs, cause: stackOf(error) }, error };
    }
    this.#options.lines.add(leased.held, 'attempt', JSON.stringify({ attempt, cause: stackOf(error) }));
    const report = errorReport(error, attempt);
    const deadReason = isInvalid
      ? 'PARAMETERS_INVALID'
      : isFinal
        ? 'NOT_RETRYABLE'
        : isTimeout
          ? 'TIMED_OUT'
          : 'ATTEMPTS_EXHAUSTED';
    return { settlement: fail(leased.held, deadReason, report), report, error };
  }

  #reportOf({ definition, leased }: RunnableTask, value: unknown): Report {
    if (isReport(value)) {
      try {
        JSON.stringify(value);
        return value;
      } catch (error) {
        return Report.createFailure(
          `The report of task "${definition.name}" is no JSON: ${errorMessage(error)}`,
        );
      }
    }
    if (value === undefined) {
      this.#options.logger.warn(
        { task: leased.held.id, taskName: definition.name, queue: leased.queue.name },
        'The handler returned nothing; a Report or JSON data tells the user what was done',
      );
      return Report.createInfo('The task ended without a report.');
    }
    try {
      return Report.createSuccess(
        `Task "${definition.name}" completed.`,
        checkJson(value, 'result', 'RESULT_NOT_JSON'),
      );
    } catch (error) {
      return Report.createFailure(errorMessage(error));
    }
  }

  #context(task: RunnableTask, workerId: string, signal: AbortSignal): TaskContext {
    const { leased, envelope, definition, attempt } = task;
    const { services, lines, events, logger } = this.#options;
    const { held, queue } = leased;
    const taskId = held.id;
    const where = { taskId, taskName: definition.name, queue: queue.name, workerId };
    return {
      taskId,
      taskName: definition.name,
      workerId,
      attempt,
      queue: queue.name,
      label: envelope.label,
      owner: envelope.owner,
      headers: envelope.headers,
      signal,
      progress(percent, note) {
        if (signal.aborted) return;
        const bounded = Math.min(100, Math.max(0, Number(percent) || 0));
        events.emit('task:progress', { ...where, percent: bounded, ...(note === undefined ? {} : { note }) });
        lines.addProgress(held, bounded, note);
      },
      log(level, message) {
        if (signal.aborted) return;
        if (level === 'fatal') logger.error(where, message);
        else logger[level](where, message);
        lines.add(held, 'log', `${level}: ${message}`);
      },
      get: (token) => services.get(token),
    };
  }
}

export function isSettlement(prepared: RunnableTask | Settlement): prepared is Settlement {
  return 'kind' in prepared;
}

/** Why a run was ended from outside; undefined when it was not. */
function abortCode(signal: AbortSignal): string | undefined {
  return isSignalboxError(signal.reason) ? signal.reason.code : undefined;
}

function fail(task: HeldTask, deadReason: string, report: Report): Settlement {
  return { task, kind: 'failed', deadReason, report: JSON.stringify(report) };
}

/** What a user may see of an error: its class, its message without control characters, and the attempt. */
export function errorReport(error: unknown, attempt: number): Report {
  const name = error instanceof Error ? error.name : typeof error;
  const message = errorMessage(error)
    .replace(/\p{Cc}+/gu, ' ')
    .slice(0, MAX_MESSAGE_LENGTH);
  const code = isSignalboxError(error) ? { code: error.code } : {};
  return Report.createFailure(`${name}: ${message}`, [], { error: name, attempt, ...code });
}

function stackOf(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : errorMessage(error);
}

/** The reasons with which a run is ended from outside. */
export function claimLost({ held, queue }: LeasedTask): TaskError {
  return new TaskError('CLAIM_LOST', `The claim on task ${held.id} was taken over.`, {
    place: { task: held.id, queue: queue.name },
  });
}

export function cancelled({ held, queue }: LeasedTask): TaskError {
  return new TaskError('TASK_CANCELLED', `Task ${held.id} was cancelled.`, {
    place: { task: held.id, queue: queue.name },
  });
}

export function workerStopping({ held, queue }: LeasedTask): TaskError {
  return new TaskError('WORKER_STOPPING', `The worker stops before task ${held.id} has ended.`, {
    place: { task: held.id, queue: queue.name },
  });
}
