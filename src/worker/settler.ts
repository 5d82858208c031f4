import type { Clock, Logger } from '../environment.ts';
import { isSignalboxError, isTransient } from '../errors.ts';
import type { ErrorCode } from '../errors.ts';
import type { EventBus } from '../events.ts';
import type { BoundQueue } from '../queue.ts';
import { Report } from '../report.ts';
import type { TaskLines } from '../task-lines.ts';
import type { Settlement } from '../task-log-broker.ts';
import type { LeasedTask, RunnableTask } from '../run-end.ts';
import type { RunEnd } from '../task-runner.ts';
import type { TaskStatus } from '../task-status.ts';

export interface SettlerOptions {
  readonly workerId: string;
  readonly lines: TaskLines;
  readonly events: EventBus;
  readonly logger: Logger;
  readonly clock: Clock;
}

/** What is known about the run that is settled; `end` is absent for tasks whose handler was not called. */
export interface SettledRun {
  readonly leased: LeasedTask;
  readonly runnable?: RunnableTask;
  readonly end?: RunEnd;
}

const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 5_000;
/** How often a write is repeated that the storage refuses; an outage is borne until `giveUp`. */
const REFUSALS = 5;
/** No repeat mends these. */
const HOPELESS: readonly ErrorCode[] = ['BROKER_CLOSED', 'NOT_INITIALIZED', 'SCHEMA_TOO_NEW'];

/** Writes how runs ended, through outages of the storage, and tells of it once it is true. */
export class Settler {
  readonly #options: SettlerOptions;

  constructor(options: SettlerOptions) {
    this.#options = options;
  }

  /**
   * Resolves to the row's new status, or undefined when the claim was lost and nothing was written.
   * Tries until it is written, `giveUp` is aborted or the storage refuses it for good, and then rejects: a run that is
   * not settled would be run again.
   */
  async settle(
    bound: BoundQueue,
    settlement: Settlement,
    run: SettledRun,
    giveUp: AbortSignal,
  ): Promise<TaskStatus | undefined> {
    const { lines, logger, workerId } = this.#options;
    if (lines.has(settlement.task)) await lines.flush(settlement.task);
    const answer = await this.#write(bound, settlement, giveUp);
    const where = {
      task: settlement.task.id,
      queue: bound.name,
      worker: workerId,
      attempt: run.runnable?.attempt,
    };
    if (answer === undefined) {
      logger.warn(where, 'The claim was lost; another worker has the task and nothing was written');
      return undefined;
    }
    logger.debug({ ...where, status: answer }, 'settled');
    this.#tell(bound, settlement, run, answer);
    return answer;
  }

  /** A call about a task has failed, and may be repeated. */
  noteFailure(operation: 'settle' | 'claim', bound: BoundQueue, id: string, error: unknown): void {
    const { logger, events } = this.#options;
    events.emit('broker:error', { operation, queue: bound.name, error });
    logger.warn({ err: error, task: id, queue: bound.name, operation }, 'A write about a task failed');
  }

  /** For a task without a message, that nobody will come back to: it stays as its row says. */
  leave(bound: BoundQueue, id: string, error: unknown): void {
    const where = { err: error, task: id, queue: bound.name, worker: this.#options.workerId };
    this.#options.logger.error(where, 'A task was left unsettled: its row says less than what happened');
  }

  async #write(
    bound: BoundQueue,
    settlement: Settlement,
    giveUp: AbortSignal,
  ): Promise<TaskStatus | undefined> {
    const { clock, logger } = this.#options;
    const { id } = settlement.task;
    let writing = settlement;
    let refusals = 0;
    for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS)) {
      try {
        const answer = await bound.settle(writing);
        return answer.log === 'written' ? answer.status : undefined;
      } catch (error) {
        this.noteFailure('settle', bound, id, error);
        if (giveUp.aborted || isHopeless(error)) throw error;
        if (!isTransient(error) && (refusals += 1) > REFUSALS) throw error;
        if (!isTransient(error) && writing === settlement && 'report' in settlement) {
          const where = { err: error, task: id, queue: bound.name };
          logger.error(where, 'The report was refused; storing the status without it');
          writing = withoutReport(settlement);
          continue;
        }
        await clock.sleep(pauseMs, giveUp);
      }
    }
  }

  #tell(
    bound: BoundQueue,
    settlement: Settlement,
    { leased, runnable, end }: SettledRun,
    status: TaskStatus,
  ): void {
    const { events, workerId } = this.#options;
    const event = {
      taskId: leased.held.id,
      taskName: runnable?.definition.name ?? 'unknown',
      queue: bound.name,
      ...(runnable === undefined ? {} : { label: runnable.envelope.label }),
      workerId,
    };
    const attempt = runnable?.attempt ?? leased.attempts + leased.lapses;
    if (status === 'cancelled') {
      events.emit('task:cancelled', event);
    } else if (settlement.kind === 'retry') {
      events.emit('task:retrying', { ...event, attempt, afterMs: settlement.afterMs, error: end?.error });
    } else if (settlement.kind === 'completed' || settlement.kind === 'failed') {
      const report =
        end?.report ??
        Report.fromJSON(settlement.report) ??
        Report.createFailure(settlement.deadReason ?? '');
      const ended = { ...event, attempt, durationMs: end?.durationMs ?? 0, report };
      if (settlement.kind === 'completed') events.emit('task:completed', ended);
      else {
        const { deadReason } = settlement;
        events.emit('task:failed', { ...ended, ...(deadReason === undefined ? {} : { deadReason }) });
      }
    }
  }
}

function withoutReport(settlement: Extract<Settlement, { readonly report: string }>): Settlement {
  const report = Report.createFailure('The report of this run could not be stored.');
  return { ...settlement, report: JSON.stringify(report) };
}

function isHopeless(error: unknown): boolean {
  return isSignalboxError(error) && HOPELESS.includes(error.code);
}
