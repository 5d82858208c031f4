import { execFile } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const run = promisify(execFile);
const root = resolve(import.meta.dirname, '../..');
const project = mkdtempSync(join(tmpdir(), 'signalbox-package-'));

/** A project of somebody else: the packed tarball unpacked, and its dependencies as they are installed here. */
beforeAll(async () => {
  await run('npm', ['pack', '--ignore-scripts', '--pack-destination', project], { cwd: root });
  const tarball = readdirSync(project).find((name) => name.endsWith('.tgz')) ?? '';
  const modules = join(project, 'node_modules');
  mkdirSync(join(modules, 'signalbox'), { recursive: true });
  await run('tar', ['xzf', tarball, '-C', join(modules, 'signalbox'), '--strip-components=1'], {
    cwd: project,
  });
  for (const name of readdirSync(join(root, 'node_modules'))) {
    if (name !== 'signalbox' && !name.startsWith('.'))
      symlinkSync(join(root, 'node_modules', name), join(modules, name));
  }
  cpSync(join(import.meta.dirname, 'fixture', 'use.ts'), join(project, 'use.ts'));
  writeFileSync(join(project, 'package.json'), JSON.stringify({ name: 'somebody', type: 'module' }));
});

afterAll(() => rmSync(project, { recursive: true, force: true }));

describe('the packed package in a project of somebody else', () => {
  it('is typed to the user: right use compiles, wrong use does not', async () => {
    const compilerOptions = {
      strict: true,
      exactOptionalPropertyTypes: true,
      module: 'nodenext',
      target: 'es2023',
      noEmit: true,
      types: ['node'],
      skipLibCheck: true,
    };
    writeFileSync(join(project, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: ['use.ts'] }));
    const { stdout } = await run(
      process.execPath,
      [join(root, 'node_modules/typescript/bin/tsc'), '-p', '.'],
      { cwd: project },
    );
    expect(stdout).toBe('');
  });

  it.each(['signalbox', 'signalbox/memory', 'signalbox/rds', 'signalbox/package.json'])(
    'exports %s',
    async (name) => {
      const suffix = name.endsWith('.json') ? ", { with: { type: 'json' } }" : '';
      const script = `const loaded = await import('${name}'${suffix}); console.log(Object.keys(loaded).length > 0)`;
      const { stdout } = await run(process.execPath, ['--input-type=module', '-e', script], { cwd: project });
      expect(stdout.trim()).toBe('true');
    },
  );

  it('can be required from CommonJS', async () => {
    const script = "console.log(typeof require('signalbox').QueueDispatcher)";
    const { stdout } = await run(
      process.execPath,
      ['--experimental-require-module', '--input-type=commonjs', '-e', script],
      { cwd: project },
    );
    expect(stdout.trim()).toBe('function');
  });

  it('loads no database driver before one is used', async () => {
    const script = [
      "import { createRequire } from 'node:module';",
      "await import('signalbox');",
      'const loaded = Object.keys(createRequire(import.meta.url).cache ?? {}).filter((file) => /knex|sqlite|inversify|yargs/.test(file));',
      'console.log(JSON.stringify(loaded));',
    ].join('\n');
    const { stdout } = await run(process.execPath, ['--input-type=module', '-e', script], { cwd: project });
    expect(JSON.parse(stdout)).toEqual([]);
  });

  it.each(['cli', 'initialize-queue', 'run-worker', 'task-log'])('has the command %s', async (name) => {
    const file = join(project, 'node_modules/signalbox/dist/scripts', `${name}.js`);
    const { stdout } = await run(file, ['--help'], { cwd: project });
    expect(stdout).toContain('--config');
  });

  it('contains no tests, no sources and nothing of the place where it was packed', async () => {
    const listing = await run(
      'tar',
      ['tzf', readdirSync(project).find((name) => name.endsWith('.tgz')) ?? ''],
      { cwd: project },
    );
    const files = listing.stdout.split('\n');
    expect(
      files.filter((file) =>
        /\/(src|brokers|scripts|test)\/.*\.test\.|^package\/(src|brokers|scripts|test)\//.test(file),
      ),
    ).toEqual([]);
    const found = await run('grep', ['-rlF', root, join(project, 'node_modules/signalbox')]).catch(
      (error: { stdout: string }) => error,
    );
    expect(found.stdout).toBe('');
  });
});
