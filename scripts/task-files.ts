import type { Dirent } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { join, relative, resolve } from 'node:path';
import { ConfigurationError } from '../src/errors.ts';
import { isAction, isActionClass, isDefinedTask, isTaskClass } from '../src/task-definition.ts';
import type { Registrable, TaskRegistry } from '../src/task-registry.ts';
import { importModule } from './import-module.ts';

/**
 * Registers every task class, Action and defined task that the files export; base classes without `run` are left out.
 * @throws ConfigurationError `CONFIG_INVALID` for a pattern without files, and for files without tasks; `CONFIG_UNREADABLE`.
 */
export async function registerTaskFiles(
  patterns: readonly string[],
  folder: string,
  registry: TaskRegistry,
): Promise<void> {
  const found = await Promise.all(patterns.map((pattern, i) => filesOf(pattern, i, folder)));
  const files = [...new Set(found.flat())];
  let registered = 0;
  for (const file of files) {
    for (const value of Object.values(await importModule(file))) {
      if (!isRegistrable(value)) continue;
      registry.register(value);
      registered += 1;
    }
  }
  if (files.length > 0 && registered === 0) {
    const names = files.map((file) => relative(folder, file)).join(', ');
    throw new ConfigurationError(
      'CONFIG_INVALID',
      `tasks: none of the files exports a task class, an Action or a defined task: ${names}.`,
    );
  }
}

async function filesOf(pattern: string, index: number, folder: string): Promise<string[]> {
  const files = await matchingFiles(pattern, folder);
  if (files.length > 0) return files;
  throw new ConfigurationError(
    'CONFIG_INVALID',
    `tasks[${index}] is "${pattern}", and no file in ${folder} matches it.`,
  );
}

function isRegistrable(value: unknown): value is Registrable {
  if (isDefinedTask(value) || isAction(value)) return true;
  return (isTaskClass(value) || isActionClass(value)) && hasRun(value);
}

/** Abstract classes are ordinary ones at run time; what they lack is the method. */
function hasRun(type: object): boolean {
  const { prototype } = type as { readonly prototype?: unknown };
  return typeof prototype === 'object' && prototype !== null && 'run' in prototype;
}

/** `*` stands for part of a name, `**` for any number of folders; hidden ones and node_modules are left out. */
export async function matchingFiles(pattern: string, folder: string): Promise<string[]> {
  const files = await walk(folder, pattern.split('/'));
  return files.filter((file) => !/\.d\.[cm]?ts$/.test(file)).sort();
}

async function walk(folder: string, segments: readonly string[]): Promise<string[]> {
  const [segment, ...rest] = segments;
  if (segment === undefined) return [];
  if (segment === '**') {
    const inside = (await foldersIn(folder)).map((name) => walk(join(folder, name), segments));
    return (await Promise.all([walk(folder, rest), ...inside])).flat();
  }
  if (!segment.includes('*')) {
    const path = segment === '' ? resolve(folder, '/') : join(folder, segment);
    if (rest.length > 0) return walk(path, rest);
    return (await isFile(path)) ? [path] : [];
  }
  const named = patternOf(segment);
  const names = (rest.length > 0 ? await foldersIn(folder) : await filesIn(folder)).filter((name) =>
    named.test(name),
  );
  if (rest.length === 0) return names.map((name) => join(folder, name));
  return (await Promise.all(names.map((name) => walk(join(folder, name), rest)))).flat();
}

function patternOf(segment: string): RegExp {
  const parts = segment.split('*').map((part) => part.replace(/[.+?^${}()|[\]\\]/g, '\\$&'));
  return new RegExp(`^${parts.join('.*')}$`);
}

async function foldersIn(folder: string): Promise<string[]> {
  const entries = await entriesOf(folder);
  return entries
    .filter((entry) => entry.isDirectory() && !entry.name.startsWith('.') && entry.name !== 'node_modules')
    .map((entry) => entry.name);
}

async function filesIn(folder: string): Promise<string[]> {
  const entries = await entriesOf(folder);
  return entries.filter((entry) => !entry.isDirectory()).map((entry) => entry.name);
}

async function entriesOf(folder: string): Promise<Dirent[]> {
  try {
    return await readdir(folder, { withFileTypes: true });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}

async function isFile(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isFile();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw error;
  }
}
