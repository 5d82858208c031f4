import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Persistence } from '../../brokers/rds/index.ts';
import { RdsQueueBroker, RdsTaskLogBroker } from '../../brokers/rds/index.ts';
import {
  AbstractTask,
  Action,
  InMemoryQueueBroker,
  Queue,
  QueueDispatcher,
  Report,
  TaskLog,
  TaskStatus,
  Worker,
} from '../../src/index.ts';
import type { QueueAssociable } from '../../src/index.ts';
import { failureOf } from '../support/core.ts';
import { sqliteFile } from '../support/sqlite.ts';
import type { SqliteFile } from '../support/sqlite.ts';

/** What a reader of the TAO documentation tries first, in its order. */

class MyFirstTask extends AbstractTask<{ test_uri?: string; delivery_uri?: string }> {
  run(): Report {
    if (this.getParameter('test_uri') === undefined || this.getDeliveryUri() === undefined) {
      return Report.createFailure('Missing parameters');
    }
    const report = Report.createSuccess();
    report.setMessage(
      `I worked with Test ${this.getParameter('test_uri')} and Delivery ${this.getDeliveryUri()}`,
    );
    return report;
  }

  setDeliveryUri(uri: string): void {
    if (!uri.startsWith('http')) throw new Error('A delivery has a URI');
    this.setParameter('delivery_uri', uri);
  }

  getDeliveryUri(): string | undefined {
    return this.getParameter('delivery_uri');
  }
}

class RegeneratePayload extends Action<string[]> {
  override run([delivery]: string[]): Report<{ delivery: string | undefined }> {
    return Report.createSuccess('Regenerated', { delivery });
  }
}

class SomeImportantAction extends Action<string[]> {
  override run(): Report {
    return Report.createSuccess('Important');
  }
}

class SomeLessImportantTask extends AbstractTask {
  run(): Report {
    return Report.createSuccess('Less important');
  }
}

/** Chooses its queue from its parameters. */
class AssociableAction extends Action<string[]> implements QueueAssociable<string[]> {
  override getQueueName([size]: string[]): string {
    return size === 'big' ? 'background' : 'standard';
  }

  override run(): Report {
    return Report.createSuccess('Where it belongs');
  }
}

const TEST_URI = 'http://example.org/tao.rdf#i1496838551505670';
const DELIVERY_URI = 'http://example.org/tao.rdf#i1496838551505110';

let file: SqliteFile;
let persistence: Persistence;

beforeEach(async () => {
  file = await sqliteFile();
  persistence = file.open();
});

afterEach(() => file.remove());

function myTask(): MyFirstTask {
  const task = new MyFirstTask();
  task.setParameter('test_uri', TEST_URI);
  task.setDeliveryUri(DELIVERY_URI);
  return task;
}

describe('a sync queue beside a task log in a database', () => {
  let dispatcher: QueueDispatcher;
  let taskLog: TaskLog;

  beforeEach(async () => {
    taskLog = new TaskLog({ broker: new RdsTaskLogBroker(persistence, 'task_log') });
    dispatcher = new QueueDispatcher({
      queues: [new Queue('queue', new InMemoryQueueBroker())],
      taskLog,
      taskToQueueAssociations: {},
    });
    await dispatcher.initialize();
    await taskLog.createContainer();
  });

  it('runs a task of an own class, constructed without arguments, inside enqueue', async () => {
    const task = myTask();
    let said = '';
    if (await dispatcher.enqueue(task, 'Label for the task')) {
      said = 'Successfully published';
    }
    expect(said).toBe('Successfully published');
    expect(await taskLog.getStatus(task.id)).toBe(TaskStatus.COMPLETED);
    const report = await taskLog.getReport(task.id);
    expect(report?.message).toBe(`I worked with Test ${TEST_URI} and Delivery ${DELIVERY_URI}`);
    expect(await taskLog.getById(task.id)).toMatchObject({ label: 'Label for the task', queue: 'queue' });
  });

  it('stores the failure of a task that misses its parameters', async () => {
    const task = new MyFirstTask();
    expect(await dispatcher.enqueue(task)).toBeTruthy();
    expect(await taskLog.getStatus(task.id)).toBe(TaskStatus.FAILED);
    expect((await taskLog.getReport(task.id))?.message).toBe('Missing parameters');
  });

  it('runs an action that createTask wraps', async () => {
    const task = await dispatcher.createTask(new RegeneratePayload(), [DELIVERY_URI], 'Fancy Label');
    expect(task.isEnqueued).toBe(true);
    let report: Report | null = null;
    if (task.isEnqueued && (await taskLog.getStatus(task.id)) === TaskStatus.COMPLETED) {
      report = await taskLog.getReport(task.id);
    }
    expect(report).toMatchObject({ message: 'Regenerated', data: { delivery: DELIVERY_URI } });
    expect(await taskLog.getById(task.id)).toMatchObject({ label: 'Fancy Label' });
  });

  it('says that it is sync, so that there surely is a report', async () => {
    const task = await dispatcher.createTask(RegeneratePayload, [DELIVERY_URI]);
    expect(dispatcher.isSync()).toBe(true);
    expect(await taskLog.getReport(task.id)).not.toBeNull();
  });

  it('finds tasks by owner, name and status', async () => {
    dispatcher.setOwner('http://example.org/user');
    const done = await dispatcher.createTask(new RegeneratePayload(), [DELIVERY_URI]);
    await dispatcher.enqueue(myTask(), { owner: 'somebody else' });
    const { entries } = await taskLog.search({
      owner: 'http://example.org/user',
      taskNames: ['RegeneratePayload'],
      statuses: [TaskStatus.COMPLETED, TaskStatus.RUNNING],
    });
    expect(entries.map(({ id }) => id)).toEqual([done.id]);
  });
});

describe('several queues', () => {
  let dispatcher: QueueDispatcher;
  let taskLog: TaskLog;

  beforeEach(() => {
    taskLog = new TaskLog({ broker: new RdsTaskLogBroker(persistence, 'task_log') });
    dispatcher = new QueueDispatcher({
      queues: [
        new Queue('priority', new RdsQueueBroker(persistence), 90),
        new Queue('standard', new RdsQueueBroker(persistence, { receiveLimit: 5 }), 30),
        new Queue('background', new RdsQueueBroker(persistence, { receiveLimit: 5 }), 10),
      ],
      taskLog,
      taskToQueueAssociations: { SomeImportantAction: 'priority', SomeLessImportantTask: 'standard' },
      defaultQueue: 'background',
    });
  });

  async function initialize(): Promise<void> {
    await dispatcher.initialize();
    await taskLog.createContainer();
  }

  it('take each task to its own, and the rest to the default; a worker drains them all', async () => {
    await initialize();
    expect(dispatcher.isSync()).toBe(false);
    const tasks = [
      await dispatcher.createTask(new SomeImportantAction(), []),
      await dispatcher.enqueue(new SomeLessImportantTask()),
      await dispatcher.enqueue(myTask()),
      await dispatcher.createTask(new AssociableAction(), ['big']),
      await dispatcher.createTask(new AssociableAction(), ['small']),
    ];
    const queueOf = async (id: string): Promise<string> => (await taskLog.getById(id)).queue;
    expect(await Promise.all(tasks.map(({ id }) => queueOf(id)))).toEqual([
      'priority',
      'standard',
      'background',
      'background',
      'standard',
    ]);
    expect(await dispatcher.count()).toBe(5);
    const first = tasks[0]?.id ?? '';
    expect(await taskLog.getStatus(first)).toBe(TaskStatus.ENQUEUED);
    expect(await taskLog.getReport(first)).toBeNull();

    const end = await new Worker({ dispatcher, stopWhenEmpty: true }).run();
    expect(end).toEqual({ processed: 5, reason: 'empty', exitCode: 0 });
    expect(await dispatcher.count()).toBe(0);
    expect(await taskLog.stats()).toMatchObject({ completed: 5, enqueued: 0, failed: 0 });
  });

  it('are drained one by one, and with a limit, by a worker on a dedicated queue', async () => {
    await initialize();
    for (let i = 0; i < 7; i += 1) await dispatcher.enqueue(new SomeLessImportantTask());
    await dispatcher.enqueue(myTask());
    const end = await new Worker({ dispatcher, queues: ['standard'], limit: 5 }).run();
    expect(end).toMatchObject({ processed: 5, reason: 'limit' });
    expect(await dispatcher.getQueue('standard').count()).toMatchObject({ ready: 2, leased: 0 });
    expect(await dispatcher.getQueue('background').count()).toMatchObject({ ready: 1 });
  });

  it('are created by initialize and createContainer, as often as one likes, and lose nothing by it', async () => {
    await initialize();
    await dispatcher.enqueue(myTask());
    await initialize();
    expect(await dispatcher.count()).toBe(1);
    expect(await taskLog.stats()).toMatchObject({ enqueued: 1 });
  });

  it.each([
    ['a task', (): Promise<unknown> => dispatcher.enqueue(myTask())],
    ['a count', (): Promise<unknown> => dispatcher.count()],
    ['a search', (): Promise<unknown> => taskLog.search()],
  ])('that were not initialized say so for %s, and name the command that mends it', async (_, call) => {
    const error = await failureOf(call);
    expect(error.code).toBe('NOT_INITIALIZED');
    expect(error.mend).toContain('initialize-queue');
    await initialize();
    await expect(call()).resolves.toBeDefined();
  });

  it('that were not initialized are reported by createTask on the task', async () => {
    const task = await dispatcher.createTask(new SomeImportantAction(), []);
    expect(task).toMatchObject({ isEnqueued: false, error: { code: 'NOT_INITIALIZED' } });
  });
});
