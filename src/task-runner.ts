import { endsWithin } from './environment.ts';
import type { Clock, Logger, Random } from './environment.ts';
import { errorMessage, errorStack, isSignalboxError, TaskError } from './errors.ts';
import type { EventBus } from './events.ts';
import type { TaskExecutor } from './executor.ts';
import type { RunOptions } from './options.ts';
import { resolveRetry } from './retry.ts';
import { errorReport, failed, outcomeOf } from './run-end.ts';
import type { HandlerEnd, LeasedTask, Outcome, RunnableTask } from './run-end.ts';
import type { TaskContext, Token } from './task-context.ts';
import type { TaskDefinition } from './task-definition.ts';
import { decodeEnvelope } from './task-envelope.ts';
import type { Envelope } from './task-envelope.ts';
import type { TaskLines } from './task-lines.ts';
import type { Settlement } from './task-log-broker.ts';
import type { TaskRegistry } from './task-registry.ts';
import { validateParameters } from './task-registry.ts';

export interface RunEnd extends Outcome {
  /** The handler ignored its abort; resolves when it returns at last. */
  readonly stillRunning?: Promise<void>;
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

export interface TaskRunnerOptions {
  readonly registry: TaskRegistry;
  readonly executor: TaskExecutor;
  readonly lines: TaskLines;
  readonly services: Services;
  readonly defaults: RunOptions;
  readonly events: EventBus;
  readonly logger: Logger;
  readonly clock: Clock;
  readonly random: Random;
}

/** A message whose task nobody here knows waits 5 s, then doubling up to 5 min, for a worker that does. */
const UNKNOWN_FIRST_MS = 5_000;
const UNKNOWN_LONGEST_MS = 300_000;
/** About eight hours of waiting: a rolling deployment is long over. */
const MAX_UNKNOWNS = 100;
/** How long a handler may take to end after its `signal` was aborted. */
export const ABORT_GRACE_MS = 5_000;
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
      return failed(leased.held, 'UNDECODABLE', errorReport(error, leased.attempts + 1));
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
    try {
      return this.#runnable(leased, envelope, definition);
    } catch (error) {
      return failed(leased.held, 'INVALID_OPTIONS', errorReport(error, leased.attempts + 1));
    }
  }

  /** Calls the handler, under its timeout, and says what to write. */
  async run(
    task: RunnableTask,
    { workerId, abort, abortGraceMs = ABORT_GRACE_MS }: RunControl,
  ): Promise<RunEnd> {
    const { clock } = this.#options;
    const startedAt = clock.monotonic();
    let hasEnded = false;
    const context = this.#context(task, workerId, abort.signal, () => hasEnded);
    const handler = this.#call(task, context).finally(() => (hasEnded = true));
    const inTime = task.timeoutMs === 0 || (await endsWithin(handler, task.timeoutMs, clock));
    const end = inTime ? await handler : await this.#timeOut(task, handler, abort, abortGraceMs);
    // A handler that goes on in spite of its abort must not soon run beside itself.
    const leastWaitMs = hasEnded ? 0 : abortGraceMs;
    const outcome = outcomeOf(task, end, abort.signal, leastWaitMs, this.#options.random);
    this.#note(task, end, outcome);
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
      return failed(leased.held, 'CRASHED', errorReport(error, attempts + lapses));
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
    if (unknowns >= MAX_UNKNOWNS)
      return failed(held, 'UNKNOWN_TASK', errorReport(error, leased.attempts + 1));
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

  #note(
    { leased, definition, attempt }: RunnableTask,
    end: HandlerEnd,
    { settlement, error }: Outcome,
  ): void {
    const { lines, logger } = this.#options;
    if (settlement === undefined) lines.forget(leased.held);
    if (settlement?.kind === 'failed' && error !== undefined) {
      lines.add(leased.held, 'attempt', JSON.stringify({ attempt, cause: errorStack(error) }));
    }
    if (end.kind === 'returned' && end.value === undefined) {
      logger.warn(
        { task: leased.held.id, taskName: definition.name, queue: leased.queue.name },
        'The handler returned nothing; a Report or JSON data tells the user what was done',
      );
    }
  }

  /** What a handler writes after its end or its abort is dropped. */
  #context(task: RunnableTask, workerId: string, signal: AbortSignal, hasEnded: () => boolean): TaskContext {
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
        if (signal.aborted || hasEnded()) return;
        const bounded = Math.min(100, Math.max(0, Number(percent) || 0));
        events.emit('task:progress', { ...where, percent: bounded, ...(note === undefined ? {} : { note }) });
        lines.addProgress(held, bounded, note);
      },
      log(level, message) {
        if (signal.aborted || hasEnded()) return;
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
