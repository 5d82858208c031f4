import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Signalbox } from '../../src/signalbox.ts';
import type { TestProject } from '../support/cli.ts';
import { createQueueProject, enqueueNamed, openQueueProject } from '../support/cli.ts';

let project: TestProject;
let signalbox: Signalbox;
let completed: string;
let failed: string;
let waiting: string;

beforeAll(async () => {
  project = await createQueueProject();
  signalbox = await openQueueProject(project);
  await signalbox.dispatcher.initialize();
  await signalbox.taskLog.createContainer();
  completed = await enqueueNamed(signalbox, 'hello', { name: 'Ada' }, 'Greet Ada');
  failed = await enqueueNamed(signalbox, 'failing');
  const { exitCode } = await project.run('run-worker', ['--stop-when-empty']);
  expect(exitCode).toBe(0);
});

beforeEach(async () => {
  waiting = await enqueueNamed(signalbox, 'patient', {}, 'Wait\nfor it');
});

afterAll(async () => {
  await signalbox.close();
  await project.remove();
});

async function idsOf(args: readonly string[]): Promise<string[]> {
  const { exitCode, stdout } = await project.run('task-log', [...args, '--json']);
  expect(exitCode).toBe(0);
  return (JSON.parse(stdout) as { id: string }[]).map(({ id }) => id);
}

describe('task-log', () => {
  it('counts the tasks of each status', async () => {
    const stats = await signalbox.taskLog.stats();

    const json = await project.run('task-log', ['--stats', '--json']);
    const text = await project.run('task-log', ['--stats']);

    expect(JSON.parse(json.stdout)).toEqual({
      numberOfTasksQueued: stats.enqueued,
      numberOfTasksInProgress: 0,
      numberOfTasksCompleted: 1,
      numberOfTasksFailed: 1,
      numberOfTasksCancelled: stats.cancelled,
      numberOfTasksArchived: stats.archived,
    });
    expect(text.stdout).toMatch(/^status +tasks\nqueued +\d+\nin progress +0\ncompleted +1\nfailed +1\n/);
  });

  it('shows one task with its report', async () => {
    const json = await project.run('task-log', ['--json', `--get-task=${completed}`]);
    const text = await project.run('task-log', [`--get-task=${completed}`]);

    expect(JSON.parse(json.stdout)).toMatchObject({
      id: completed,
      taskName: 'hello',
      taskLabel: 'Greet Ada',
      status: 'completed',
      queue: 'standard',
      attempts: 1,
      worker: expect.any(String) as unknown,
      createdAt: expect.stringMatching(/^\d{4}-\d\d-\d\dT.*Z$/) as unknown,
      startedAt: expect.stringMatching(/Z$/) as unknown,
      finishedAt: expect.stringMatching(/Z$/) as unknown,
      report: { type: 'success', data: { greeting: 'Hello Ada' } },
    });
    expect(text.stdout).toMatch(/^status +completed$/m);
    expect(text.stdout).toContain('"greeting": "Hello Ada"');
  });

  it('lists the newest tasks first, page by page, whatever the order of the options', async () => {
    expect(await idsOf(['--available', '--limit=1'])).toEqual([waiting]);
    const all = await idsOf(['--available', '--limit=100']);
    expect(all.slice(-2)).toEqual([failed, completed]);
    expect(await idsOf(['--offset=1', '--limit=2', '--available'])).toEqual(all.slice(1, 3));
  });

  it('lists tasks as text, one line each', async () => {
    const { stdout } = await project.run('task-log', ['--available', '--limit=1']);

    expect(stdout.trim().split('\n')).toHaveLength(2);
    expect(stdout).toMatch(/^id +taskName +taskLabel +status +queue +attempts +createdAt\n/);
    expect(stdout).toContain(`${waiting}  patient   Wait for it  created  standard  0`);
  });

  it('cancels a waiting task, which then is in no list', async () => {
    const { exitCode, stdout } = await project.run('task-log', [`--cancel=${waiting}`]);

    expect({ exitCode, stdout }).toEqual({ exitCode: 0, stdout: 'Cancelled: 1\n' });
    expect(await signalbox.taskLog.getStatus(waiting)).toBe('cancelled');
    expect(await idsOf(['--available', '--limit=100'])).not.toContain(waiting);
  });

  it('archives a waiting task, which then is in no list', async () => {
    const { exitCode, stdout } = await project.run('task-log', ['--json', `--archive=${waiting}`]);

    expect(exitCode).toBe(0);
    expect(JSON.parse(stdout)).toEqual({ archived: 1 });
    expect(await signalbox.taskLog.getStatus(waiting)).toBe('archived');
    expect(await idsOf(['--available', '--limit=100'])).not.toContain(waiting);
  });

  it('asks a running task to end, and archives it only by force', async () => {
    const worker = project.start('run-worker', ['--queue=standard', '--concurrency=1', '--log-level=debug']);
    await worker.said('"msg":"started"');
    const [running = ''] = (
      await signalbox.taskLog.search({ statuses: ['running'] }, { limit: 1 })
    ).entries.map(({ id }) => id);

    const refused = await project.run('task-log', [`--archive=${running}`]);
    expect(refused.exitCode).toBe(1);
    expect(refused.stderr).toContain('error CHANGE_REFUSED: ');
    expect(refused.stderr).toContain('--force');

    const asked = await project.run('task-log', [`--cancel=${running}`]);
    expect(asked.exitCode).toBe(0);
    expect(asked.stdout).toBe(`Cancellation requested: task ${running} is running, and was asked to end.\n`);

    const forced = await project.run('task-log', ['--force', `--archive=${running}`]);
    expect(forced).toMatchObject({ exitCode: 0, stdout: 'Archived: 1\n' });
    expect(await signalbox.taskLog.getStatus(running)).toBe('archived');
    worker.kill('SIGKILL');
    await worker.ended;
  });

  it('names the task that it cannot find', async () => {
    for (const action of ['get-task', 'archive', 'cancel']) {
      const { exitCode, stderr } = await project.run('task-log', [`--${action}=nobody`, '--json']);

      expect(exitCode).toBe(1);
      expect(JSON.parse(stderr)).toEqual({
        error: {
          code: 'TASK_NOT_FOUND',
          message: expect.stringContaining('nobody') as unknown,
          cause: expect.any(String) as unknown,
          mend: expect.any(String) as unknown,
          place: { task: 'nobody' },
        },
      });
    }
  });

  it.each([
    [['--limit=3'], '--limit needs --available.'],
    [['--stats', '--offset=3'], '--offset needs --available.'],
    [['--available', '--limit=0'], '--limit needs a whole number of at least 1'],
    [['--available', '--offset=x'], '--offset needs a whole number of at least 0'],
    [['--force'], '--force needs --archive or --cancel.'],
    [['--get-task=x', '--force'], '--force needs --archive or --cancel.'],
    [['--stats', '--available'], '--stats and --available cannot be given together.'],
    [['--archive=x', '--cancel=x'], '--archive and --cancel cannot be given together.'],
    [['--get-task'], '--get-task needs a value.'],
    [['--get-task='], '--get-task needs a value'],
    [['--archive', '--force'], '--archive needs a value.'],
    [['--stat'], 'There is no option --stat. Did you mean --stats?'],
  ])('refuses %j', async (args, message) => {
    const { exitCode, stdout, stderr } = await project.run('task-log', args);

    expect({ exitCode, stdout }).toEqual({ exitCode: 2, stdout: '' });
    expect(stderr).toContain(message);
  });

  it('without options shows its help with numbered examples', async () => {
    const { exitCode, stdout } = await project.run('task-log');

    expect(exitCode).toBe(0);
    for (const example of ['1. Stats', '2. List', '3. Get', '4. Archive', '5. Cancel']) {
      expect(stdout).toContain(example);
    }
    expect(stdout).toContain('75  the worker lost all its places');
  });
});

describe('what a task wrote', () => {
  // Clear the screen, colours by a control character of the second set, and text that runs backwards.
  const evil = 'Ada\u001b[2J\u009b31m\u202e\u{e0001}';

  it('cannot steer the terminal, and is the same in JSON', async () => {
    const other = await createQueueProject();
    const opened = await openQueueProject(other);
    try {
      await opened.dispatcher.initialize();
      await opened.taskLog.createContainer();
      const id = await enqueueNamed(opened, 'hello', { name: evil }, evil);
      await other.run('run-worker', ['--stop-when-empty']);

      const outputs = await Promise.all([
        other.run('task-log', [`--get-task=${id}`]),
        other.run('task-log', [`--get-task=${id}`, '--json']),
        other.run('task-log', ['--available']),
        other.run('task-log', ['--available', '--json']),
        other.run('task-log', [`--get-task=${evil}`]),
        other.run('task-log', [`--get-task=${evil}`, '--json']),
      ]);
      for (const { stdout, stderr } of outputs) expect(stdout + stderr).not.toMatch(/(?!\n)\p{C}/u);
      const [text, json] = outputs;
      expect(text?.stdout).toContain('"greeting": "Hello Ada\\u001b[2J\\u009b31m\\u202e\\udb40\\udc01"');
      expect(JSON.parse(json?.stdout ?? '')).toMatchObject({
        taskLabel: evil,
        report: { data: { greeting: `Hello ${evil}` } },
      });
    } finally {
      await opened.close();
      await other.remove();
    }
  });
});
