import { extname } from 'node:path';
import { pathToFileURL } from 'node:url';
import { ConfigurationError, errorMessage } from '../src/errors.ts';

/**
 * The exports of a user's file.
 * @throws ConfigurationError `CONFIG_UNREADABLE` with the place where Node.js stopped.
 */
export async function importModule(path: string): Promise<Readonly<Record<string, unknown>>> {
  if (['.ts', '.mts'].includes(extname(path)) && !canImportTypeScript()) {
    throw new ConfigurationError(
      'CONFIG_UNREADABLE',
      `${path}: Node.js ${process.versions.node} cannot load TypeScript.`,
      { mend: 'Compile the file and name the .js file, or use Node.js 22.18 or newer.' },
    );
  }
  try {
    return (await import(pathToFileURL(path).href)) as Record<string, unknown>;
  } catch (error) {
    throw new ConfigurationError('CONFIG_UNREADABLE', `${path} cannot be loaded: ${describe(error)}`, {
      cause: error,
    });
  }
}

function canImportTypeScript(): boolean {
  return Boolean((process.features as { readonly typescript?: unknown }).typescript);
}

/** A syntax error says where only in the first line of its stack. */
function describe(error: unknown): string {
  const where = error instanceof SyntaxError ? /^file:.*$/m.exec(error.stack ?? '')?.[0] : undefined;
  return where === undefined ? errorMessage(error) : `${errorMessage(error)} (${where})`;
}
