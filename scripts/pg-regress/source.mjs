import { cpSync, existsSync, mkdirSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { Missing, run } from './tools.mjs'

/**
 * The regression suite's sources of the installed server's version, from
 * Debian's source package, kept below `directory`. `given` is a source tree or
 * an upstream tarball to use instead.
 */
export function regressionSource({ directory, version, major, given }) {
  if (given !== undefined && statSync(given).isDirectory()) return checked(given)
  const tree = path.join(directory, 'source')
  if (existsSync(path.join(tree, 'src/test/regress/sql'))) return tree
  mkdirSync(directory, { recursive: true })
  const tarball = given ?? download({ directory, version, major })
  const unpacked = path.join(directory, 'unpacked')
  rmSync(unpacked, { recursive: true, force: true })
  mkdirSync(unpacked)
  run('tar', [
    'xf',
    tarball,
    '-C',
    unpacked,
    '--strip-components=1',
    '--wildcards',
    '*/src/test/regress/*',
    '*/src/pl/plpgsql/src/sql/*',
    '*/contrib/*',
  ])
  renameSync(unpacked, tree)
  return checked(tree)
}

function checked(tree) {
  if (!existsSync(path.join(tree, 'src/test/regress/parallel_schedule'))) {
    throw new Missing(`${tree} is no source tree of PostgreSQL: src/test/regress/parallel_schedule is not there`)
  }
  return tree
}

/** Debian's own apt configuration, with source packages: nothing outside `directory` is changed. */
function download({ directory, version, major }) {
  const apt = privateApt(path.join(directory, 'apt'))
  const name = `postgresql-${major}`
  const versions = [...apt('apt-cache', ['showsrc', name]).matchAll(/^Version: (.+)$/gm)].map(([, one]) => one)
  // Any of the same major version does: the server's own first.
  const wanted = versions.sort((a, b) => Number(b.startsWith(`${version}-`)) - Number(a.startsWith(`${version}-`)))
  const got = wanted.find((one) => {
    try {
      apt('apt-get', ['source', '--download-only', `${name}=${one}`], { cwd: directory })
      if (!one.startsWith(`${version}-`)) console.error(`the server is ${version}, the suite is that of ${one}`)
      return true
    } catch (error) {
      console.error(`apt-get source ${name}=${one}: ${/^(E|Err).*$/m.exec(error.message)?.[0] ?? error.message}`)
      return false
    }
  })
  if (got === undefined) throw new Missing(`apt can get no source package ${name}: give --source DIR or TARBALL`)
  const tarball = readdirSync(directory).find((file) => /\.orig\.tar\.\w+$/.test(file))
  if (tarball === undefined) throw new Missing(`apt-get source ${name} brought no upstream tarball`)
  return path.join(directory, tarball)
}

function privateApt(directory) {
  for (const part of ['lists/partial', 'archives/partial', 'parts'])
    mkdirSync(path.join(directory, part), { recursive: true })
  const targets = run('apt-get', [
    'indextargets',
    '--format',
    '$(REPO_URI) $(RELEASE) $(COMPONENT)',
    'Created-By: Packages',
  ])
  const lines = [...new Set(targets.split('\n').filter(Boolean))]
  if (lines.length === 0)
    throw new Missing('apt has no package lists: run apt-get update, or give --source DIR or TARBALL')
  const list = path.join(directory, 'sources.list')
  writeFileSync(list, `${lines.flatMap((line) => [`deb ${line}`, `deb-src ${line}`]).join('\n')}\n`)
  const settings = {
    'Dir::Etc::sourcelist': list,
    'Dir::Etc::sourceparts': path.join(directory, 'parts'),
    'Dir::State::lists': path.join(directory, 'lists'),
    'Dir::Cache': directory,
    // The working directory need not be readable to apt's own user.
    'APT::Sandbox::User': 'root',
  }
  const options = Object.entries(settings).flatMap(([key, value]) => ['-o', `${key}=${value}`])
  run('apt-get', [...options, 'update', '-qq'])
  return (program, args, spawn) => run(program, [...options, '-q', ...args], spawn)
}

/**
 * The suite's C functions, built against the server's headers. Without a
 * compiler the statements that call them fail with an error, live and dry.
 */
export function regressionLibrary({ directory, tree, major, pkglibdir }) {
  const library = path.join(directory, 'lib')
  const target = path.join(library, 'regress.so')
  mkdirSync(library, { recursive: true })
  for (const name of ['refint.so', 'autoinc.so']) {
    const file = path.join(pkglibdir, name)
    if (existsSync(file)) cpSync(file, path.join(library, name))
  }
  if (existsSync(target)) return library
  try {
    run('gcc', [
      '-O1',
      '-fPIC',
      '-shared',
      '-w',
      '-I',
      headers(directory, major),
      path.join(tree, 'src/test/regress/regress.c'),
      '-o',
      target,
    ])
  } catch (error) {
    console.error(
      `regress.so was not built (${String(error.message).split('\n')[0]}): its functions are missing from the suite`,
    )
  }
  return library
}

function headers(directory, major) {
  const installed = `/usr/include/postgresql/${major}/server`
  if (existsSync(installed)) return installed
  const unpacked = path.join(directory, 'headers')
  const here = path.join(unpacked, installed)
  if (existsSync(here)) return here
  mkdirSync(unpacked, { recursive: true })
  const apt = privateApt(path.join(directory, 'apt'))
  apt('apt-get', ['download', `postgresql-server-dev-${major}`], { cwd: unpacked })
  const deb = readdirSync(unpacked).find((file) => file.endsWith('.deb'))
  run('dpkg-deb', ['-x', path.join(unpacked, deb), unpacked])
  return here
}
