import { TaskError } from './errors.ts';
import { Report } from './report.ts';
import type { TaskLog, WaitOptions } from './task-log.ts';
import type { TaskStatus } from './task-status.ts';

/** What `enqueue` resolves to: a task that was accepted. */
export class TaskHandle<R = unknown> {
  readonly id: string;
  readonly queue: string;
  readonly #taskLog: TaskLog;

  constructor(id: string, queue: string, taskLog: TaskLog) {
    this.id = id;
    this.queue = queue;
    this.#taskLog = taskLog;
  }

  status(): Promise<TaskStatus | 'unknown'> {
    return this.#taskLog.getStatus(this.id);
  }

  /** Null while the task has not ended. */
  report(): Promise<Report | null> {
    return this.#taskLog.getReport(this.id);
  }

  /**
   * Waits for the end and gives the handler's value, or its report's data (null when it has none).
   * @throws TaskError `TASK_FAILED`, `TASK_CANCELLED`, `RESULT_TIMEOUT`
   */
  async result(options: WaitOptions = {}): Promise<R> {
    const entry = await this.#taskLog.waitFor(this.id, options);
    const report = entry.report === null ? null : Report.fromJSON(entry.report);
    const place = { task: this.id, taskName: entry.taskName, queue: entry.queue };
    if (entry.status === 'failed') {
      throw new TaskError('TASK_FAILED', report?.message ?? `Task ${this.id} failed.`, {
        place,
        cause: report,
      });
    }
    if (entry.status === 'cancelled')
      throw new TaskError('TASK_CANCELLED', `Task ${this.id} was cancelled.`, { place });
    return (report?.data ?? null) as R;
  }
}
