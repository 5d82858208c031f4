import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  realpath,
  rm,
  symlink,
  truncate,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { sqliteKnex } from '../../brokers/rds/index.ts';

const DEMO = resolve(import.meta.dirname, '..', '..', 'dist', 'scripts', 'demo', 'main.js');

interface Ended {
  readonly exitCode: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

interface Running {
  readonly ended: Promise<Ended>;
  kill(signal: NodeJS.Signals): void;
  /** Resolves when standard output matches. */
  says(pattern: RegExp): Promise<void>;
}

/** Holds the folders that are catalogued and the state of the demo. */
let project: string;

beforeEach(async () => {
  project = await realpath(await mkdtemp(join(tmpdir(), 'signalbox-demo-')));
});

afterEach(async () => {
  await rm(project, { recursive: true, force: true });
});

function start(command: string, args: readonly string[]): Running {
  const child = spawn(command, args, { cwd: project });
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  const ended = new Promise<Ended>((settle, reject) => {
    child.on('error', reject);
    child.on('close', (exitCode) => settle({ exitCode, stdout, stderr }));
  });
  return {
    ended,
    kill: (signal) => void child.kill(signal),
    async says(pattern) {
      while (!pattern.test(stdout)) {
        if (child.exitCode !== null)
          throw new Error(`It ended without saying ${pattern}:\n${stdout}${stderr}`);
        await sleep(5);
      }
    },
  };
}

function startDemo(...args: readonly string[]): Running {
  return start(process.execPath, [DEMO, ...args]);
}

function runDemo(...args: readonly string[]): Promise<Ended> {
  return startDemo(...args).ended;
}

async function makeFiles(folder: string, count: number): Promise<void> {
  await mkdir(join(project, folder));
  const names = Array.from({ length: count }, (_, i) => `${String(i).padStart(4, '0')}.txt`);
  await Promise.all(names.map((name) => writeFile(join(project, folder, name), `file ${name}\n`)));
}

function nextCommands(stdout: string): string[] {
  const [, after = ''] = stdout.split('\nNext:\n');
  return after.split('\n').filter((line) => line.startsWith('  '));
}

async function statistics(stdout: string): Promise<string> {
  const command = nextCommands(stdout).find((line) => line.includes('--stats')) ?? 'false';
  const { stdout: text } = await start('sh', ['-c', command]).ended;
  return text;
}

function readWorkerLog(): Promise<string> {
  return readFile(join(project, '.signalbox-demo', 'worker.log'), 'utf8');
}

describe('the demo on a small folder', () => {
  beforeEach(async () => {
    await mkdir(join(project, 'files', 'inner'), { recursive: true });
    await writeFile(join(project, 'files', 'one.js'), 'let one = 1;\nlet two = 2;\n');
    await writeFile(join(project, 'files', 'inner', 'copy.js'), 'let one = 1;\nlet two = 2;\n');
    await writeFile(join(project, 'files', 'note\u001b[31m.txt'), 'three words here\n');
    await writeFile(join(project, 'files', 'empty.txt'), '');
    await writeFile(join(project, 'files', 'big.bin'), '');
    await truncate(join(project, 'files', 'big.bin'), 300_000);
    await symlink('..', join(project, 'files', 'inner', 'loop'));
    await symlink('nothing', join(project, 'files', 'dangling'));
  });

  it('counts every file once, in the queue that its task chose, and finds the duplicate', async () => {
    const { exitCode, stdout, stderr } = await runDemo('files');
    expect(stderr).toBe('');
    expect(exitCode).toBe(0);
    expect(stdout).toContain(`Cataloguing 5 of 5 files in ${join(project, 'files')}\n`);
    expect(stdout).toContain('(2 symbolic links not followed)');
    expect(stdout).toMatch(/│ small +│ +60 │ +2 │ +17 B │/);
    expect(stdout).toMatch(/│ source +│ +30 │ +2 │ +52 B │/);
    expect(stdout).toMatch(/│ large +│ +10 │ +1 │ +300\.0 kB │/);
    expect(stdout).toContain('Duplicates: 1 group, 1 more than needed, 26 B wasted.');
    expect(stdout).toMatch(/│ inner\/copy\.js +│ +2 │ +26 B │/);
    expect(stdout).toContain('Failures: none.');
    expect(stdout).toContain('Total: 5 files, 300.1 kB in ');
    expect(stdout).toContain('\n5 lines, 20 words; gzip saves ');
    expect(await statistics(stdout)).toMatch(/completed +5\n/);
  });

  it('shows names of files so that they cannot move the cursor', async () => {
    const { stdout } = await runDemo('files');
    expect(stdout).toContain('note\\u{1b}[31m.txt');
    expect(stdout).not.toContain('\u001b');
  });

  it('prints next commands that work', async () => {
    const { stdout } = await runDemo('files');
    const commands = nextCommands(stdout);
    expect(commands).toHaveLength(5);
    for (const command of commands) {
      const { exitCode, stderr } = await start('sh', ['-c', command]).ended;
      expect({ command, exitCode, stderr: exitCode === 0 ? '' : stderr }).toEqual({
        command,
        exitCode: 0,
        stderr: '',
      });
    }
  });

  it('leaves no lock behind', async () => {
    await runDemo('files');
    expect(await readdir(join(project, '.signalbox-demo'))).not.toContain('lock');
  });

  it('says plainly when a file that was announced is lacking at the end', async () => {
    await runDemo('files');
    const state = join(project, '.signalbox-demo');
    const run = JSON.parse(await readFile(join(state, 'run.json'), 'utf8')) as { database: string };
    await writeFile(join(state, 'run.json'), JSON.stringify({ ...run, isFinished: false }));
    const knex = await sqliteKnex(join(state, run.database));
    await knex('tq_task_log').where('label', 'like', '1/5 %').update({ label: '6/5 unknown' });
    await knex.destroy();

    const { exitCode, stdout, stderr } = await runDemo();
    expect(exitCode).toBe(1);
    expect(stdout).toContain('Total: 4 files, ');
    expect(stderr).toContain(
      'The catalogue is not complete: 5 files were announced, 4 are accounted for; 1 file lacking.',
    );
    expect((await runDemo('files')).exitCode).toBe(0);
  });

  it('starts anew after a finished run', async () => {
    await runDemo('files');
    await rm(join(project, 'files', 'one.js'));
    const { exitCode, stdout } = await runDemo('files');
    expect(exitCode).toBe(0);
    expect(stdout).toContain('Cataloguing 4 of 4 files');
    expect(stdout).not.toContain('Going on');
    expect(stdout).toContain('Duplicates: none.');
  });
});

describe('the demo on one tiny file', () => {
  it('shows no odd numbers', async () => {
    await mkdir(join(project, 'files'));
    await writeFile(join(project, 'files', 'a'), 'x');
    const { stdout } = await runDemo('files');
    expect(stdout).toMatch(/Total: 1 file, 1 B in [\d.]+ m?s: [\d,]+ files\/s, \d+(\.\d)? k?B\/s\.\n/);
    expect(stdout).toContain('1 word; gzip saves nothing.\n');
  });
});

describe('the demo beside another one', () => {
  const lock = (): string => join(project, '.signalbox-demo', 'lock');

  beforeEach(async () => {
    await makeFiles('files', 3);
    await mkdir(join(project, '.signalbox-demo'));
  });

  it('refuses to work in the same folder', async () => {
    await writeFile(lock(), String(process.pid));
    const { exitCode, stdout, stderr } = await runDemo('files', '--fresh');
    expect({ exitCode, stdout }).toEqual({ exitCode: 2, stdout: '' });
    expect(stderr).toContain(`Another demo (process ${process.pid}) is at work in this folder`);
    expect(await readFile(lock(), 'utf8')).toBe(String(process.pid));
  });

  it('gives each of several that start at once a whole catalogue or a refusal', async () => {
    const ends = await Promise.all([1, 2, 3].map(() => runDemo('files')));
    const working = ends.filter(({ exitCode }) => exitCode === 0);
    expect(working.length).toBeGreaterThan(0);
    for (const { stdout } of working) expect(stdout).toContain('Total: 3 files, ');
    for (const { exitCode, stderr } of ends.filter((end) => !working.includes(end))) {
      expect(exitCode).toBe(2);
      expect(stderr).toContain('Another demo');
    }
  });

  it.each([
    ['a dead process', async () => String(await deadPid())],
    ['nobody', () => Promise.resolve('')],
  ])('takes over the lock of %s', async (_, owner) => {
    await writeFile(lock(), await owner());
    const { exitCode, stdout } = await runDemo('files');
    expect(exitCode).toBe(0);
    expect(stdout).toContain('Total: 3 files, ');
  });
});

describe('the demo when it is stopped in the middle', () => {
  const FILES = 1_200;

  it('goes on after Ctrl-C, and tells which file vanished meanwhile', async () => {
    await makeFiles('files', FILES);
    const first = startDemo('files');
    await first.says(/\d of 1,200 files\n/);
    first.kill('SIGINT');
    const stopped = await first.ended;
    expect(stopped.exitCode).toBe(130);
    expect(stopped.stdout).toMatch(/Stopped: [\d,]+ of 1,200 files are done, and nothing is lost\./);

    await rm(join(project, 'files', '1199.txt'));
    const { exitCode, stdout } = await runDemo();
    expect(exitCode).toBe(0);
    expect(stdout).toMatch(/Going on with [\d,]+ of 1,200 files done\./);
    expect(stdout).toContain('Total: 1,199 files, ');
    expect(stdout).toMatch(/Failures: 1\.\n[^]*│ 1199\.txt │ It vanished after it was listed │/);
    const counts = await statistics(stdout);
    expect(counts).toMatch(/completed +1199\n/);
    expect(counts).toMatch(/failed +1\n/);

    // Every file was run by one worker only, and once.
    const processed = [...(await readWorkerLog()).matchAll(/Worker finished: (\d+) tasks/g)].map(tasksIn);
    expect(processed).toHaveLength(2);
    expect(processed.reduce((sum, tasks) => sum + tasks, 0)).toBe(FILES);
  });

  it('ends with every file catalogued once after it and its worker were killed', async () => {
    await makeFiles('files', FILES);
    const first = startDemo('files');
    await first.says(/\d of 1,200 files\n/);
    first.kill('SIGKILL');
    await first.ended;
    const [, worker] = /"pid":(\d+)/.exec(await readWorkerLog()) ?? [];
    process.kill(Number(worker), 'SIGKILL');

    const { exitCode, stdout } = await runDemo('files');
    expect(exitCode).toBe(0);
    expect(stdout).toMatch(/Going on with [\d,]+ of 1,200 files done\./);
    expect(stdout).toContain('Total: 1,200 files, ');
    expect(await statistics(stdout)).toMatch(/completed +1200\n/);
  });

  it('goes on by itself when its worker is killed', async () => {
    await makeFiles('files', FILES);
    const running = startDemo('files');
    await running.says(/\d of 1,200 files\n/);
    const [, worker] = /"pid":(\d+)/.exec(await readWorkerLog()) ?? [];
    process.kill(Number(worker), 'SIGKILL');
    const { exitCode, stdout } = await running.ended;
    expect(exitCode).toBe(0);
    expect(stdout).toContain('The worker was killed (SIGKILL)');
    expect(await statistics(stdout)).toMatch(/completed +1200\n/);
  });

  it('keeps an unfinished catalogue from being overwritten by another folder, unless --fresh says so', async () => {
    await makeFiles('files', FILES);
    await makeFiles('others', 3);
    const first = startDemo('files');
    await first.says(/\d of 1,200 files\n/);
    first.kill('SIGTERM');
    expect((await first.ended).exitCode).toBe(143);

    const refused = await runDemo('others');
    expect(refused.exitCode).toBe(2);
    expect(refused.stderr).toContain(`The catalogue of ${join(project, 'files')} is not finished.`);

    const { exitCode, stdout } = await runDemo('others', '--fresh');
    expect(exitCode).toBe(0);
    expect(stdout).toContain('Total: 3 files, ');
  });
});

describe('the demo on what is no folder of files', () => {
  it.each([
    ['a folder that does not exist', ['nowhere'], 'nowhere: there is no such folder.'],
    ['a file', ['file.txt'], 'file.txt is not a folder.'],
    ['two folders', ['a', 'b'], 'One folder at a time'],
    ['an option that it does not have', ['--frsh'], '--frsh'],
  ])('refuses %s', async (_, args, message) => {
    await writeFile(join(project, 'file.txt'), 'text');
    const { exitCode, stdout, stderr } = await runDemo(...args);
    expect(exitCode).toBe(2);
    expect(stderr).toContain(message);
    expect(stderr).not.toContain('    at ');
    expect(stdout).toBe('');
  });

  it('says that an empty folder has no files', async () => {
    await mkdir(join(project, 'empty'));
    const { exitCode, stdout } = await runDemo('empty');
    expect(exitCode).toBe(0);
    expect(stdout).toContain(`There are no files in ${join(project, 'empty')}.`);
  });
});

async function deadPid(): Promise<number> {
  const child = spawn(process.execPath, ['--version']);
  await once(child, 'close');
  return child.pid ?? 0;
}

function tasksIn([, digits]: RegExpMatchArray): number {
  return Number(digits);
}
