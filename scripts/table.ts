/** With borders on a terminal, else columns that other programs can read. */
export async function tableText(
  columns: readonly string[],
  rows: readonly (readonly string[])[],
): Promise<string> {
  if (!process.stdout.isTTY) return plainTable([columns, ...rows]);
  const { default: Table } = await import('cli-table3');
  const table = new Table({ head: [...columns] });
  table.push(...rows.map((row) => [...row]));
  return table.toString();
}

function plainTable(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, i) => Math.max(...rows.map((row) => row[i]?.length ?? 0)));
  return rows
    .map((row) =>
      row
        .map((cell, i) => cell.padEnd(widths[i] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}
