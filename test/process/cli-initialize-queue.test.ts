import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Signalbox } from '../../src/signalbox.ts';
import type { TestProject } from '../support/cli.ts';
import { createQueueProject, enqueueNamed, openQueueProject } from '../support/cli.ts';

let project: TestProject;

beforeEach(async () => {
  project = await createQueueProject();
});

afterEach(async () => {
  await project.remove();
});

async function countWaiting(signalbox: Signalbox): Promise<number> {
  try {
    return await signalbox.dispatcher.count();
  } finally {
    await signalbox.close();
  }
}

describe('initialize-queue', () => {
  it('creates queues and task log, and says so', async () => {
    const { exitCode, stdout, stderr } = await project.run('initialize-queue');

    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' });
    expect(stdout).toBe(
      'Queue standard (rds, default): created\n' +
        'Queue local (memory): nothing to create\n' +
        'Task log task_log (rds, default): created\n',
    );
  });

  it('changes nothing and loses nothing when it is repeated', async () => {
    await project.run('initialize-queue');
    const signalbox = await openQueueProject(project);
    await enqueueNamed(signalbox, 'hello');

    const { exitCode, stdout } = await project.run('initialize-queue', ['--json']);

    expect(exitCode).toBe(0);
    expect(JSON.parse(stdout)).toEqual({
      queues: [
        { name: 'standard', broker: 'rds', persistence: 'default', state: 'checked' },
        { name: 'local', broker: 'memory', persistence: null, state: 'in memory' },
      ],
      taskLog: { name: 'task_log', broker: 'rds', persistence: 'default', state: 'checked' },
      sync: false,
    });
    expect(await countWaiting(signalbox)).toBe(1);
  });

  it('may be run by eight processes at once', async () => {
    const ends = await Promise.all(Array.from({ length: 8 }, () => project.run('initialize-queue')));

    expect(ends.map(({ exitCode, stderr }) => ({ exitCode, stderr }))).toEqual(
      ends.map(() => ({ exitCode: 0, stderr: '' })),
    );
    const signalbox = await openQueueProject(project);
    await enqueueNamed(signalbox, 'hello');
    expect(await countWaiting(signalbox)).toBe(1);
  });

  it('says that no worker is needed when all queues are in memory', async () => {
    await project.write({
      'signalbox.config.js': `export default { queues: [{ name: 'queue', broker: { type: 'memory' } }] };`,
    });

    const { exitCode, stdout } = await project.run('initialize-queue');

    expect(exitCode).toBe(0);
    expect(stdout).toContain('All queues are sync: tasks run inside `enqueue`, and no worker is needed.');
  });

  it('names the database whose folder does not exist', async () => {
    await project.write({
      'signalbox.config.js': `export default {
        persistences: { default: { client: 'sqlite', connection: { filename: './nowhere/queue.sqlite' } } },
        queues: [{ name: 'queue', broker: { type: 'rds', persistence: 'default' } }],
        taskLog: { broker: { type: 'rds', persistence: 'default' } },
      };`,
    });

    const { exitCode, stdout, stderr } = await project.run('initialize-queue');

    expect({ exitCode, stdout }).toEqual({ exitCode: 1, stdout: '' });
    expect(stderr).toContain('error DATABASE_MISSING: ');
    expect(stderr).toContain(`${project.folder}/nowhere`);
  });

  it('takes no option that changes the configuration', async () => {
    const { exitCode, stderr } = await project.run('initialize-queue', ['--broker=memory']);

    expect(exitCode).toBe(2);
    expect(stderr).toContain('There is no option --broker.');
  });
});
