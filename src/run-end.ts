import type { Random } from './environment.ts';
import {
  errorMessage,
  errorName,
  errorStack,
  isNonRetryable,
  isSignalboxError,
  TaskError,
} from './errors.ts';
import type { Queue } from './queue.ts';
import { isReport, Report } from './report.ts';
import { backoffMs } from './retry.ts';
import type { RetryPolicy } from './retry.ts';
import type { TaskDefinition } from './task-definition.ts';
import { checkJson } from './task-envelope.ts';
import type { Envelope } from './task-envelope.ts';
import type { HeldTask, Settlement } from './task-log-broker.ts';

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

/** What a handler did. */
export type HandlerEnd =
  | { readonly kind: 'returned'; readonly value: unknown }
  | { readonly kind: 'threw'; readonly error: unknown };

/** How a run ended. Without a settlement its claim was lost, so that nothing may be written. */
export interface Outcome {
  readonly settlement?: Settlement;
  readonly report?: Report;
  readonly error?: unknown;
}

const MAX_MESSAGE_LENGTH = 2_000;

/**
 * What a run's end means: completed, failed, cancelled, to be tried again, or to be given back. `leastWaitMs` is the
 * shortest wait before the next run.
 */
export function outcomeOf(
  task: RunnableTask,
  end: HandlerEnd,
  signal: AbortSignal,
  leastWaitMs: number,
  random: Random,
): Outcome {
  try {
    return judge(task, end, signal, leastWaitMs, random);
  } catch (error) {
    // A report or an error of the handler's own making that cannot even be read.
    const report = Report.createFailure(
      `What task "${task.definition.name}" left cannot be read: ${errorMessage(error)}`,
    );
    return { settlement: failed(task.leased.held, 'UNREADABLE_END', report), report, error };
  }
}

function judge(
  task: RunnableTask,
  end: HandlerEnd,
  signal: AbortSignal,
  leastWaitMs: number,
  random: Random,
): Outcome {
  const reason = abortCode(signal);
  if (reason === 'CLAIM_LOST') return {};
  const { held } = task.leased;
  if (end.kind === 'returned') {
    const report = reportOf(task.definition, end.value);
    const kind = report.isFailure() ? 'failed' : 'completed';
    return { settlement: { task: held, kind, report: JSON.stringify(report) }, report };
  }
  if (reason === 'TASK_CANCELLED') {
    const report = Report.createInfo('The task was cancelled while it ran.');
    return { settlement: { task: held, kind: 'cancelled', report: JSON.stringify(report) }, report };
  }
  if (reason === 'WORKER_STOPPING') return { settlement: { task: held, kind: 'give-back', afterMs: 0 } };
  return retryOrFail(task, end.error, leastWaitMs, random);
}

function retryOrFail(task: RunnableTask, error: unknown, leastWaitMs: number, random: Random): Outcome {
  const { leased, policy, attempt } = task;
  const run = leased.attempts + 1;
  const deadReason = deadReasonOf(error);
  const isFinal = deadReason === 'NOT_RETRYABLE' || deadReason === 'PARAMETERS_INVALID';
  if (!isFinal && run < policy.maxAttempts) {
    const afterMs = Math.max(backoffMs(policy, run, random), leastWaitMs);
    return { settlement: { task: leased.held, kind: 'retry', afterMs, cause: errorStack(error) }, error };
  }
  const report = errorReport(error, attempt);
  return { settlement: failed(leased.held, deadReason, report), report, error };
}

function deadReasonOf(error: unknown): string {
  if (isNonRetryable(error)) return 'NOT_RETRYABLE';
  const code = isSignalboxError(error) ? error.code : undefined;
  if (code === 'PARAMETERS_INVALID') return 'PARAMETERS_INVALID';
  return code === 'TASK_TIMED_OUT' ? 'TIMED_OUT' : 'ATTEMPTS_EXHAUSTED';
}

function reportOf({ name }: TaskDefinition, value: unknown): Report {
  if (value === undefined) return Report.createInfo('The task ended without a report.');
  try {
    if (!isReport(value))
      return Report.createSuccess(`Task "${name}" completed.`, checkJson(value, 'result', 'RESULT_NOT_JSON'));
    JSON.stringify(value);
    return value;
  } catch (error) {
    return Report.createFailure(`What task "${name}" returned is no JSON: ${errorMessage(error)}`);
  }
}

/** Why a run was ended from outside; undefined when it was not. */
function abortCode(signal: AbortSignal): string | undefined {
  return isSignalboxError(signal.reason) ? signal.reason.code : undefined;
}

export function failed(task: HeldTask, deadReason: string, report: Report): Settlement {
  return { task, kind: 'failed', deadReason, report: JSON.stringify(report) };
}

/** What a user may see of an error: its class, its message without control characters, and the attempt. */
export function errorReport(error: unknown, attempt: number): Report {
  const name = errorName(error);
  const message = errorMessage(error)
    .replace(/\p{Cc}+/gu, ' ')
    .slice(0, MAX_MESSAGE_LENGTH);
  const code = isSignalboxError(error) ? { code: error.code } : {};
  return Report.createFailure(`${name}: ${message}`, [], { error: name, attempt, ...code });
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
