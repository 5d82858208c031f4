import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Signalbox } from '../../src/signalbox.ts';
import type { CommandEnd, TestProject } from '../support/cli.ts';
import { createQueueProject, enqueueNamed, openQueueProject, PACKAGE_URL } from '../support/cli.ts';

let project: TestProject;
let signalbox: Signalbox;

beforeEach(async () => {
  project = await createQueueProject();
  signalbox = await openQueueProject(project);
  await signalbox.dispatcher.initialize();
  await signalbox.taskLog.createContainer();
});

afterEach(async () => {
  await signalbox.close();
  await project.remove();
});

describe('run-worker', () => {
  it('ends after its limit and leaves the rest waiting', async () => {
    for (let i = 0; i < 10; i += 1) await enqueueNamed(signalbox, 'hello', { name: String(i) });

    const { exitCode, stdout } = await project.run('run-worker', ['--queue=standard', '--limit=5']);

    expect(exitCode).toBe(0);
    expect(stdout).toBe('Worker finished: 5 tasks (5 completed, 0 failed), reason limit\n');
    expect(await signalbox.taskLog.stats()).toMatchObject({ completed: 5, enqueued: 5, dequeued: 0 });
    expect(await signalbox.dispatcher.count()).toBe(5);
  });

  it('drains the queues and reports failures, which are no failure of its own', async () => {
    const id = await enqueueNamed(signalbox, 'hello', { name: 'Ada' });
    await enqueueNamed(signalbox, 'failing');

    const { exitCode, stdout } = await project.run('run-worker', ['--stop-when-empty', '--json']);

    expect(exitCode).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ processed: 2, reason: 'empty', completed: 1, failed: 1 });
    expect((await signalbox.taskLog.getReport(id))?.data).toEqual({ greeting: 'Hello Ada' });
  });

  it('says at debug level what becomes of a task, step by step', async () => {
    const task = await enqueueNamed(signalbox, 'hello', { name: 'Ada' });

    const { stderr } = await project.run('run-worker', ['--stop-when-empty', '--log-level=debug']);

    const lines = stderr
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>)
      .filter((line) => line['task'] === task);
    expect(lines.map((line) => line['msg'])).toEqual(['drawn', 'claimed', 'started', 'finished', 'settled']);
    for (const line of lines)
      expect(line).toMatchObject({ queue: 'standard', worker: expect.any(String) as unknown });
    for (const line of lines.slice(1)) expect(line).toMatchObject({ attempt: 1 });
  });

  it('logs nothing of the tasks at the default level', async () => {
    const task = await enqueueNamed(signalbox, 'hello', { name: 'Ada' });

    const { stderr } = await project.run('run-worker', ['--stop-when-empty']);

    expect(stderr).toContain('Worker started');
    expect(stderr).not.toContain(task);
  });

  it('lets the running task end when it is told to stop', async () => {
    await enqueueNamed(signalbox, 'short');
    await enqueueNamed(signalbox, 'short');

    const worker = project.start('run-worker', ['--concurrency=1', '--log-level=debug']);
    await worker.said('"msg":"started"');
    worker.kill('SIGTERM');
    const { exitCode, stdout } = await worker.ended;

    expect(exitCode).toBe(0);
    expect(stdout).toBe('Worker finished: 1 task (1 completed, 0 failed), reason stopped\n');
    expect(await signalbox.taskLog.stats()).toMatchObject({ completed: 1, enqueued: 1 });
  });

  it('ends after its time, whatever is left to do', async () => {
    const { exitCode, stdout } = await project.run('run-worker', ['--time-limit=1']);

    expect(exitCode).toBe(0);
    expect(stdout).toContain('reason time-limit');
  });

  it('ends when it is larger than it may be', async () => {
    await enqueueNamed(signalbox, 'hello', { name: 'Ada' });

    const { exitCode, stdout } = await project.run('run-worker', ['--memory-limit=1']);

    expect(exitCode).toBe(0);
    expect(stdout).toContain('reason memory-limit');
  });

  it('ends with 75 when handlers that ignore their abort have all its places', async () => {
    await enqueueNamed(signalbox, 'stubborn');

    const { exitCode, stdout } = await project.run('run-worker', ['--concurrency=1']);

    expect(exitCode).toBe(75);
    expect(stdout).toContain('reason slots-lost');
  });

  it('works on the one queue that it is given', async () => {
    const { exitCode, stdout } = await project.run('run-worker', ['--queue=local']);

    expect(exitCode).toBe(0);
    expect(stdout).toBe('Queue "local" is sync: tasks run inside `enqueue`, and no worker is needed.\n');
  });

  it('is not needed when all queues are sync', async () => {
    await project.write({
      'signalbox.config.js': `export default { queues: [{ name: 'queue', broker: { type: 'memory' } }] };`,
    });

    const { exitCode, stdout } = await project.run('run-worker', ['--json']);

    expect(exitCode).toBe(0);
    expect(JSON.parse(stdout)).toEqual({ processed: 0, reason: 'sync', exitCode: 0 });
  });

  it('names the command that creates the tables when they are missing', async () => {
    await project.write({
      'signalbox.config.json': JSON.stringify({
        persistences: { default: { client: 'sqlite', connection: { filename: 'other.sqlite' } } },
        queues: [{ name: 'standard', broker: { type: 'rds', persistence: 'default' } }],
        taskLog: { broker: { type: 'rds', persistence: 'default' } },
      }),
    });

    const { exitCode, stderr } = await project.run('run-worker', ['--config=signalbox.config.json']);

    expect(exitCode).toBe(1);
    expect(stderr).toContain('error NOT_INITIALIZED: ');
    expect(stderr).toContain('initialize-queue');
  });

  it.each([
    [['--limit=5'], '--limit needs --queue'],
    [['--queue=standard', '--limit=0'], '--limit needs a whole number of at least 1; got "0".'],
    [['--queue=standard', '--limit=-5'], '--limit needs a whole number of at least 1; got "-5".'],
    [['--queue=standard', '--limit=2.5'], '--limit needs a whole number of at least 1; got "2.5".'],
    [['--queue=standard', '--limit=few'], '--limit needs a whole number of at least 1; got "few".'],
    [['--queue=standard', '--limit'], '--limit needs a value.'],
    [['--queue=standard', '--queue=local'], '--queue was given more than once.'],
    [['--queue='], '--queue needs a value'],
    [['--concurrency=0'], '--concurrency needs a whole number of at least 1'],
    [['--queu=standard'], 'There is no option --queu. Did you mean --queue?'],
    [['-q', 'standard'], 'There is no option -q.'],
    [['standard'], 'run-worker takes no argument "standard"'],
    [['--log-level=loud'], '--log-level is one of trace, debug, info, warn, error, fatal, silent'],
  ])('refuses %j', async (args, message) => {
    const { exitCode, stdout, stderr } = await project.run('run-worker', args);

    expect({ exitCode, stdout }).toEqual({ exitCode: 2, stdout: '' });
    expect(stderr).toContain('error USAGE: ');
    expect(stderr).toContain(message);
  });

  it('lists the queues when it is given one that is unknown', async () => {
    const { exitCode, stderr } = await project.run('run-worker', ['--queue=standrad']);

    expect(exitCode).toBe(2);
    expect(stderr).toContain(
      'error QUEUE_UNKNOWN: There is no queue "standrad"; there are standard, local. Did you mean "standard"?',
    );
  });
});

describe('run-worker with tasks that end its process', () => {
  beforeEach(async () => {
    const file = (run: string): string => `
      import { defineTask } from '${PACKAGE_URL}';
      export const deadly = defineTask({ name: 'deadly', run: () => { ${run} } });`;
    const forever = 'return new Promise(() => setInterval(() => undefined, 60_000));';
    await project.write({
      'exit.js': file('process.exit(0);'),
      'exit-with-seven.js': file('process.exit(7);'),
      'throw.js': file(`setTimeout(() => { throw new Error('Out of paper'); }); ${forever}`),
      'reject.js': file(`void Promise.reject(new Error('Out of ink')); ${forever}`),
    });
  });

  async function runDeadly(file: string, ...args: readonly string[]): Promise<CommandEnd & { task: string }> {
    const queue = { name: 'standard', broker: { type: 'rds', persistence: 'default' } };
    await project.write({
      'deadly.json': JSON.stringify({
        persistences: { default: { client: 'sqlite', connection: { filename: 'queue.sqlite' } } },
        queues: [queue],
        taskLog: { broker: queue.broker },
        tasks: [file],
      }),
    });
    const task = await enqueueNamed(signalbox, 'deadly');
    return { task, ...(await project.run('run-worker', ['--config=deadly.json', ...args])) };
  }

  it('says which task was running when a handler calls process.exit(0), and ends with 1', async () => {
    const { exitCode, stdout, stderr, task } = await runDeadly('exit.js');

    expect({ exitCode, stdout }).toEqual({ exitCode: 1, stdout: '' });
    expect(stderr).toContain(
      'error WORKER_CRASHED: The process was ended with exit code 0 before the worker had ended; ' +
        `1 task was running: deadly (${task}).\n`,
    );
  });

  it('says so as JSON with --json', async () => {
    const { exitCode, stderr, task } = await runDeadly('exit.js', '--json', '--log-level=silent');

    expect(exitCode).toBe(1);
    expect(JSON.parse(stderr)).toMatchObject({
      error: { code: 'WORKER_CRASHED', message: expect.stringContaining(`deadly (${task})`) as unknown },
    });
  });

  it('keeps an exit code that already says failure', async () => {
    const { exitCode, stderr } = await runDeadly('exit-with-seven.js');

    expect(exitCode).toBe(7);
    expect(stderr).toContain('error WORKER_CRASHED: The process was ended with exit code 7');
  });

  it.each([
    ['throw.js', 'An error was thrown and nobody caught it', 'Out of paper'],
    ['reject.js', 'A promise was rejected and nobody caught it', 'Out of ink'],
  ])('ends with 1 and shows where it came from after %s', async (file, what, message) => {
    const { exitCode, stderr, task } = await runDeadly(file);

    expect(exitCode).toBe(1);
    expect(stderr).toContain(
      `error WORKER_CRASHED: ${what} before the worker had ended; 1 task was running: deadly (${task}).\n` +
        `  because  ${message}\n`,
    );
    expect(stderr).toContain(file);
  });
});
