import ApusCompiler
import ApusCore
import ArgumentParser

/// Looks into timing caches and joins them.
struct TimingCacheCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "timing-cache",
    abstract: "Join timing caches, or say what is in one.",
    discussion: """
      Entries for different devices, drivers and compilers stand side by side; of several figures for the same the one of \
      most runs is kept.

        apus timing-cache merge a.timings b.timings -o all.timings
        apus timing-cache show all.timings
      """, subcommands: [Merge.self, Show.self])

  /// Joins caches.
  struct Merge: ParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "merge", abstract: "Join timing caches into one.",
      discussion: "Damaged lines are left out.\n\n  apus timing-cache merge a.timings b.timings -o all.timings")

    @Argument(help: "The caches.", completion: .file())
    var files: [String]

    @Option(
      name: [.short, .customLong("output")], help: ArgumentHelp("The file to write.", valueName: "FILE"),
      completion: .file())
    var output: String

    func run() throws {
      for path in files { _ = try TimingCacheCommand.read(path) }
      let merged = try TimingCacheFile.merge(files, into: output)
      print("\(output): \(merged.sorted.count) timings")
    }
  }

  /// Lists a cache.
  struct Show: ParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "show", abstract: "Say what is in a timing cache.",
      discussion: "  apus timing-cache show all.timings --json | jq length")

    @Argument(help: "The cache.", completion: .file())
    var file: String

    @Flag(help: "Print JSON.")
    var json = false

    func run() throws {
      let entries = try TimingCacheCommand.read(file).sorted
      if json {
        print(
          JSON.array(
            entries.map { entry in
              .object([
                ("key", .string(entry.key)), ("target", .string(entry.place.target)),
                ("device", .string(entry.place.device)), ("driver", .string(entry.place.driver)),
                ("compiler", .string(entry.place.compiler)), ("tactic", .string(entry.tactic)),
                ("us", .number(1e6 * entry.seconds)), ("runs", .int(entry.runs)),
              ])
            }))
        return
      }
      var table = Table([
        ("target", .left), ("device", .left), ("driver", .left), ("compiler", .left), ("tactic", .left), ("us", .right),
        ("runs", .right), ("key", .left),
      ])
      for entry in entries {
        let place = entry.place
        table.add([
          place.target, place.device, place.driver, place.compiler, entry.tactic, Units.fixed(1e6 * entry.seconds, 2),
          String(entry.runs), entry.key,
        ])
      }
      print(table.text)
    }
  }

  /// A cache that must be there.
  private static func read(_ path: String) throws -> TimingCache {
    if !AtomicFile.exists(path) {
      throw UsageError("APUS-C-0022", "there is no file '\(path)'", place: path)
    }
    let cache = try TimingCacheFile(path: path).cache
    if let warning = cache.warning(path) { printError("warning \(warning)") }
    return cache
  }
}
