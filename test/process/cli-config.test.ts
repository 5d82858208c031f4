import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { PACKAGE_URL, TestProject } from '../support/cli.ts';

const CONFIG = `{ queues: [{ name: 'queue', broker: { type: 'memory', sync: false } }], tasks: ['TASKS'] }`;
const withTasks = (pattern: string): string => `export default ${CONFIG.replace('TASKS', pattern)};`;
const TASK = `
  import { AbstractTask, Action, defineTask } from '${PACKAGE_URL}';
  export { AbstractTask, Action };
  export class Base extends AbstractTask {}
  export class First extends Base { run() {} }
  export default class Second extends Action { run() {} }
  export const third = defineTask({ name: 'third', run: () => {} });
  export const notATask = 3;`;

let project: TestProject;

beforeEach(async () => {
  project = await TestProject.create();
});

afterEach(async () => {
  await project.remove();
});

describe('the configuration file', () => {
  it('is found in a folder above', async () => {
    await project.write({
      'signalbox.config.mjs': `export default { queues: [{ name: 'above', broker: { type: 'memory' } }] };`,
      'one/two/here.txt': '',
    });

    const { stdout } = await project.run('initialize-queue', [], { folder: 'one/two' });

    expect(stdout).toContain('Queue above');
  });

  it('is the one of --config before SIGNALBOX_CONFIG before the nearest', async () => {
    const named = (name: string): string =>
      JSON.stringify({ queues: [{ name, broker: { type: 'memory' } }] });
    await project.write({
      'signalbox.config.json': named('nearest'),
      'environment.json': named('environment'),
      'option.json': named('option'),
    });
    const env = { SIGNALBOX_CONFIG: 'environment.json' };

    const nearest = await project.run('initialize-queue');
    const fromEnvironment = await project.run('initialize-queue', [], { env });
    const fromOption = await project.run('initialize-queue', ['--config=option.json'], { env });

    expect(nearest.stdout).toContain('Queue nearest');
    expect(fromEnvironment.stdout).toContain('Queue environment');
    expect(fromOption.stdout).toContain('Queue option');
  });

  it('has the relative paths in it counted from its own folder', async () => {
    await project.write({
      'ops/signalbox.config.js': `export default {
        persistences: { default: { client: 'sqlite', connection: { filename: 'here.sqlite' } } },
        queues: [{ name: 'queue', broker: { type: 'rds', persistence: 'default' } }],
        taskLog: { broker: { type: 'rds', persistence: 'default' } },
      };`,
      'elsewhere/signalbox.config.js': 'export default {};',
    });
    const args = ['--config=../ops/signalbox.config.js'];

    await project.run('initialize-queue', args, { folder: 'elsewhere' });
    const { exitCode, stdout } = await project.run('task-log', ['--stats', '--json'], { folder: 'ops' });

    expect(exitCode).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ numberOfTasksQueued: 0 });
  });

  it.each([
    ['no file at all', {}, 'CONFIG_NOT_FOUND', 'There is no signalbox.config.js'],
    [
      'every mistake at once',
      { 'signalbox.config.js': `export default { queues: [{ nam: 'a', broker: { type: 'rsd' } }] };` },
      'QUEUE_NAME_INVALID',
      /has 3 problems:\n(.*\n)*.*Did you mean "rds"\?/,
    ],
    [
      'a syntax error, with its line',
      { 'signalbox.config.js': 'export default {\n  queues: [,,;\n};' },
      'CONFIG_UNREADABLE',
      'signalbox.config.js:2',
    ],
    [
      'JSON that is none',
      { 'signalbox.config.json': '{ "queues": [ }' },
      'CONFIG_UNREADABLE',
      'signalbox.config.json cannot be read',
    ],
    [
      'an error that it throws',
      { 'signalbox.config.js': `throw new Error('No secret in the environment');` },
      'CONFIG_UNREADABLE',
      'No secret in the environment',
    ],
    [
      'no default export',
      { 'signalbox.config.js': 'export const config = {};' },
      'CONFIG_INVALID',
      'has no default export',
    ],
  ])('may be wrong: %s', async (_, files, code, message) => {
    await project.write(files);

    const { exitCode, stdout, stderr } = await project.run('initialize-queue');

    expect({ exitCode, stdout }).toEqual({ exitCode: 1, stdout: '' });
    expect(stderr).toContain(`error ${code}: `);
    if (typeof message === 'string') expect(stderr).toContain(message);
    else expect(stderr).toMatch(message);
    expect(stderr).not.toContain('    at ');
  });

  it('is told about with a stack at debug level', async () => {
    await project.write({ 'signalbox.config.js': `throw new Error('No secret');` });

    const { stderr } = await project.run('initialize-queue', ['--log-level=debug']);

    expect(stderr).toContain('    at ');
  });

  it('may be TypeScript where Node.js can load it', async () => {
    await project.write({
      'signalbox.config.ts': `
        const name: string = 'typed';
        export default { queues: [{ name, broker: { type: 'memory' } }] };`,
    });

    const { exitCode, stdout, stderr } = await project.run('initialize-queue');

    if ((process.features as { typescript?: unknown }).typescript) {
      expect({ exitCode, stdout }).toMatchObject({
        exitCode: 0,
        stdout: expect.stringContaining('typed') as unknown,
      });
    } else {
      expect(exitCode).toBe(1);
      expect(stderr).toContain('cannot load TypeScript');
      expect(stderr).toContain('Compile the file and name the .js file, or use Node.js 22.18 or newer.');
    }
  });
});

describe('task files', () => {
  it.each(['tasks/all.js', './tasks/*.js', './tas*/a*.js', '**/all.js', './tasks/**/*.js'])(
    'are found by %s',
    async (pattern) => {
      await project.write({ 'signalbox.config.js': withTasks(pattern), 'tasks/all.js': TASK });

      const { exitCode, stdout, stderr } = await project.run('run-worker', ['--stop-when-empty']);

      expect({ exitCode, stderr: stderr.includes('error ') }).toEqual({ exitCode: 0, stderr: false });
      expect(stdout).toContain('reason empty');
    },
  );

  it.each([
    ['a pattern without files', './task/*.js', {}, 'CONFIG_INVALID', 'tasks[0] is "./task/*.js"'],
    ['a missing file', './tasks/one.js', {}, 'CONFIG_INVALID', 'tasks[0] is "./tasks/one.js"'],
    [
      'files without tasks',
      './tasks/*.js',
      { 'tasks/none.js': 'export const a = 1;' },
      'CONFIG_INVALID',
      'tasks/none.js',
    ],
    [
      'a file that cannot be loaded',
      './tasks/*.js',
      { 'tasks/bad.js': `import './missing.js';` },
      'CONFIG_UNREADABLE',
      'tasks/bad.js cannot be loaded',
    ],
    [
      'two tasks of one name',
      './tasks/*.js',
      { 'tasks/one.js': TASK, 'tasks/two.js': TASK },
      'TASK_DUPLICATE',
      'The name "First"',
    ],
  ])('may be wrong: %s', async (_, pattern, files, code, message) => {
    await project.write({ 'signalbox.config.js': withTasks(pattern), ...files });

    const { exitCode, stderr } = await project.run('run-worker', ['--stop-when-empty']);

    expect(exitCode).toBe(1);
    expect(stderr).toContain(`error ${code}: `);
    expect(stderr).toContain(message);
  });
});

describe('signalbox', () => {
  it('runs the other commands by name', async () => {
    await project.write({
      'signalbox.config.json': '{ "queues": [{ "name": "queue", "broker": { "type": "memory" } }] }',
    });

    const initialized = await project.run('signalbox', ['initialize-queue', '--json']);
    const worked = await project.run('signalbox', ['--json', 'run-worker']);
    const refused = await project.run('signalbox', ['task-log', '--limit=1']);

    expect(JSON.parse(initialized.stdout)).toMatchObject({ sync: true });
    expect(JSON.parse(worked.stdout)).toMatchObject({ reason: 'sync' });
    expect(refused.exitCode).toBe(2);
  });

  it('lists its commands', async () => {
    const { exitCode, stdout } = await project.run('signalbox');

    expect(exitCode).toBe(0);
    for (const name of ['initialize-queue', 'run-worker', 'task-log']) expect(stdout).toContain(name);
  });

  it('refuses a command that it does not know', async () => {
    const { exitCode, stderr } = await project.run('signalbox', ['run-wroker']);

    expect(exitCode).toBe(2);
    expect(stderr).toContain('Did you mean run-worker?');
  });

  it.each(['signalbox', 'initialize-queue', 'run-worker', 'task-log'] as const)(
    '%s has a help with the exit codes, and a version',
    async (name) => {
      const help = await project.run(name, ['--help']);
      const version = await project.run(name, ['--version']);

      expect(help.exitCode).toBe(0);
      expect(help.stdout).toContain('Examples:');
      expect(help.stdout).toContain('75  the worker lost all its places');
      expect(version).toMatchObject({
        exitCode: 0,
        stdout: expect.stringMatching(/^\d+\.\d+\.\d+\n$/) as unknown,
      });
    },
  );
});
