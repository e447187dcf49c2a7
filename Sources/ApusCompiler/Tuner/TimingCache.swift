package import ApusCore
package import ApusRuntime

/// Measured times of tactics: a text file of one line each, which can be kept, joined and carried between machines.
///
/// ```
/// apus-timings 1
/// KEY <tab> TARGET <tab> DEVICE <tab> DRIVER <tab> COMPILER <tab> TACTIC <tab> MICROSECONDS <tab> RUNS <tab> CHECKSUM
/// ```
/// The key is a hash of the kernels' sources, the sizes they are launched with and the target. Lines stand for themselves: files
/// may be joined by writing one behind the other, and programs may add lines at the same time. Of several figures for one key,
/// device, driver and compiler the one of most runs counts, then the least, so that joining in any order gives the same. Lines
/// that are damaged count for nothing.
package struct TimingCache: Sendable {
  /// One measurement.
  package struct Entry: Sendable, Hashable {
    package var key: String
    package var place: Place
    package var tactic: String
    package var seconds: Double
    package var runs: Int

    package init(key: String, place: Place, tactic: String, seconds: Double, runs: Int) {
      self.key = key
      self.place = place
      self.tactic = tactic
      self.seconds = seconds
      self.runs = runs
    }
  }

  /// Where something was measured, and by what it was compiled.
  package struct Place: Sendable, Hashable, Comparable {
    package var target: String
    package var device: String
    package var driver: String
    package var compiler: String

    package init(target: String, device: DeviceIdentity, compiler: String) {
      self.target = target
      self.device = device.model
      self.driver = device.driver
      self.compiler = compiler
    }

    init(target: String, device: String, driver: String, compiler: String) {
      self.target = target
      self.device = device
      self.driver = driver
      self.compiler = compiler
    }

    fileprivate var fields: [String] { [target, device, driver, compiler] }

    package static func < (a: Place, b: Place) -> Bool { a.fields.lexicographicallyPrecedes(b.fields) }
  }

  private struct Slot: Hashable {
    var key: String
    var place: Place
  }

  static let header = "apus-timings 1"

  private var entries: [Slot: Entry] = [:]
  /// Numbers of the lines that were damaged.
  package private(set) var damagedLines: [Int] = []

  package init() {}

  /// All entries, in an order that depends on them alone.
  package var sorted: [Entry] {
    entries.values.sorted { ($0.place, $0.key, $0.tactic) < ($1.place, $1.key, $1.tactic) }
  }

  package mutating func add(_ entry: Entry) {
    let slot = Slot(key: entry.key, place: entry.place)
    if let known = entries[slot], (known.runs, -known.seconds) >= (entry.runs, -entry.seconds) { return }
    entries[slot] = entry
  }

  /// Takes in what another cache holds.
  package mutating func merge(_ other: TimingCache) {
    for entry in other.entries.values { add(entry) }
  }

  package func seconds(_ key: String, at place: Place) -> Double? { entries[Slot(key: key, place: place)]?.seconds }

  /// The place at which most of some keys were measured, of those that hold the first key; the last in order of several.
  package func place(knowing keys: [String], target: String) -> Place? {
    var counts: [Place: Int] = [:]
    let wanted = Set(keys)
    for slot in entries.keys where slot.place.target == target && wanted.contains(slot.key) {
      counts[slot.place, default: 0] += 1
    }
    let fitting = counts.filter { place, _ in keys.first.map { seconds($0, at: place) != nil } ?? false }
    return fitting.max { ($0.value, $0.key) < ($1.value, $1.key) }?.key
  }
}

// MARK: Text

extension TimingCache {
  /// Reads the text of a file.
  ///
  /// - Throws: ``BuildError`` `APUS-B-0056` when it is no timing cache, or one of another version.
  package init(text: String, path: String) throws(BuildError) {
    if text.isEmpty { return }
    for (index, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
      if index == 0, line != Self.header {
        throw BuildError(
          "APUS-B-0056", "this is no timing cache of version 1: it begins with '\(line.prefix(40))'", place: path,
          hint: "Name a file that `apus tune` or `apus timing-cache` wrote, or one that is not there yet.")
      }
      if line.isEmpty || line == Self.header { continue }
      if let entry = Entry(line: line) { add(entry) } else { damagedLines.append(index + 1) }
    }
  }

  /// The text that ``init(text:path:)`` reads; the same for the same entries.
  package var text: String { Self.header + "\n" + sorted.map(\.line).joined() }

  /// What is wrong with the file, if anything.
  package func warning(_ path: String) -> Diagnostic? {
    guard let first = damagedLines.first else { return nil }
    return Diagnostic(
      "APUS-B-0057", "\(damagedLines.count) damaged lines are ignored", place: "\(path), line \(first)",
      hint: "`apus timing-cache merge \(path) -o \(path)` writes the file without them.")
  }
}

extension TimingCache.Entry {
  /// The line with its end.
  var line: String {
    let clean = [key] + place.fields + [tactic]
    let words =
      clean.map { $0.map { $0 == "\t" || $0.isNewline ? " " : String($0) }.joined() }
      + [TimingCache.microseconds(seconds), String(runs)]
    let content = words.joined(separator: "\t")
    return "\(content)\t\(Self.checksum(content))\n"
  }

  /// Nil when the line is damaged.
  init?(line: Substring) {
    guard let tab = line.lastIndex(of: "\t") else { return nil }
    let content = String(line[..<tab])
    let words = content.split(separator: "\t", omittingEmptySubsequences: false).map(String.init)
    guard Self.checksum(content) == line[line.index(after: tab)...], words.count == 8, let time = Double(words[6]),
      let runs = Int(words[7]), time.isFinite, time >= 0, runs > 0
    else { return nil }
    self.init(
      key: words[0],
      place: TimingCache.Place(target: words[1], device: words[2], driver: words[3], compiler: words[4]),
      tactic: words[5], seconds: time / 1e6, runs: runs)
  }

  private static func checksum(_ content: String) -> String { String(ContentHash.hex([content]).suffix(8)) }
}

extension TimingCache {
  /// Microseconds to a thousandth, as lines have them.
  static func microseconds(_ seconds: Double) -> String {
    let nanoseconds = Int((seconds * 1e9).rounded())
    let rest = String(nanoseconds % 1000)
    return "\(nanoseconds / 1000)." + String(repeating: "0", count: 3 - rest.count) + rest
  }
}
