import ApusCompiler
import ApusCore
import ApusRuntime
import Foundation
import Testing

@Suite struct TimingCacheTests {
  private static let here = TimingCache.Place(
    target: "sm_90a",
    device: DeviceIdentity(target: "sm_90a", model: "NVIDIA H200", driver: "13.0", cacheByteCount: 0),
    compiler: "NVRTC 13.0")

  private static func entry(
    _ key: String, _ seconds: Double, runs: Int = 9, tactic: String = "mma 64x64", at place: TimingCache.Place = here
  ) -> TimingCache.Entry {
    TimingCache.Entry(key: key, place: place, tactic: tactic, seconds: seconds, runs: runs)
  }

  private static func cache(_ entries: [TimingCache.Entry]) -> TimingCache {
    var cache = TimingCache()
    for entry in entries { cache.add(entry) }
    return cache
  }

  private static func read(_ text: String) throws -> TimingCache { try TimingCache(text: text, path: "c.timings") }

  @Test func textHoldsEverything() throws {
    let cache = Self.cache([
      Self.entry("b", 1.25e-5), Self.entry("a", 3.000001), Self.entry("c", 0, runs: 1, tactic: "odd\tname\nhere"),
    ])
    let again = try Self.read(cache.text)
    #expect(again.text == cache.text && again.damagedLines.isEmpty)
    #expect(again.seconds("b", at: Self.here) == 1.25e-5 && again.seconds("z", at: Self.here) == nil)
    #expect(again.sorted.map(\.key) == ["a", "b", "c"])
  }

  /// In any order, any number of times, and as text put behind text.
  @Test func joiningIsTheSameInAnyOrder() throws {
    let a = Self.cache([Self.entry("x", 2e-6, runs: 5), Self.entry("y", 3e-6)])
    let b = Self.cache([Self.entry("x", 9e-6, runs: 25), Self.entry("y", 2e-6)])
    var (one, two) = (a, b)
    one.merge(b)
    two.merge(a)
    two.merge(b)
    #expect(one.text == two.text)
    #expect(one.seconds("x", at: Self.here) == 9e-6 && one.seconds("y", at: Self.here) == 2e-6)
    #expect(try Self.read(a.text + b.text).text == one.text)
  }

  @Test func damagedLinesAreLeftOutAndNamed() throws {
    let good = Self.cache([Self.entry("a", 1e-6), Self.entry("b", 2e-6), Self.entry("c", 3e-6)]).text
    var lines = good.split(separator: "\n").map(String.init)
    lines[2] = lines[2].replacingOccurrences(of: "2.000", with: "1.000")
    lines.append("half a li")
    let read = try Self.read(lines.joined(separator: "\n"))
    #expect(read.sorted.map(\.key) == ["a", "c"] && read.damagedLines == [3, 5])
    #expect(read.warning("c.timings")?.place == "c.timings, line 3")
    for position in good.utf8.indices.dropFirst(16) where good.utf8[position] != UInt8(ascii: "\n") {
      var bytes = Array(good.utf8)
      bytes[good.utf8.distance(from: good.utf8.startIndex, to: position)] ^= 1
      let found = try? Self.read(String(decoding: bytes, as: UTF8.self))
      #expect(found.map { $0.sorted.count <= 3 && $0.text != good } ?? true)
    }
  }

  @Test(arguments: ["hello", "apus-timings 2\n", "APUS\u{7}"]) func otherFilesAreRefused(text: String) {
    let error = #expect(throws: BuildError.self) { try Self.read(text) }
    #expect(error?.problems[0].code == "APUS-B-0056")
  }

  @Test func withoutADeviceThePlaceThatKnowsMostCounts() {
    var old = Self.here
    old.driver = "12.8"
    var other = Self.here
    other.target = "sm_80"
    let cache = Self.cache([
      Self.entry("a", 1e-6, at: old), Self.entry("a", 1e-6), Self.entry("b", 1e-6), Self.entry("c", 1e-6, at: old),
      Self.entry("c", 1e-6, at: other), Self.entry("b", 1e-6, at: other), Self.entry("a", 1e-6, at: other),
    ])
    #expect(cache.place(knowing: ["a", "b"], target: "sm_90a") == Self.here)
    #expect(cache.place(knowing: ["c", "b", "a"], target: "sm_90a") == old)
    #expect(cache.place(knowing: ["z", "a"], target: "sm_90a") == nil)
    #expect(cache.place(knowing: ["a"], target: "sm_100a") == nil)
  }

  @Test func filesAreAddedTo() throws {
    let path = FileManager.default.temporaryDirectory.appendingPathComponent("apus-timings-\(UUID().uuidString)").path
    defer { try? FileManager.default.removeItem(atPath: path) }
    var first = try TimingCacheFile(path: path)
    var second = try TimingCacheFile(path: path)
    try first.add([Self.entry("a", 1e-6)])
    try second.add([Self.entry("b", 2e-6), Self.entry("c", 3e-6)])
    try first.add([])
    #expect(try TimingCacheFile(path: path).cache.sorted.map(\.key) == ["a", "b", "c"])
  }

  /// Writers that begin a file together, add to it together, and join others into it meanwhile lose nothing.
  @Test func writersAtOnceLoseNothing() throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("apus-timings-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    let (path, other) = (folder.appendingPathComponent("a").path, folder.appendingPathComponent("b").path)
    var extra = try TimingCacheFile(path: other)
    try extra.add([Self.entry("extra", 1e-6)])
    let (writers, count) = (4, 60)
    DispatchQueue.concurrentPerform(iterations: writers + 1) { writer in
      if writer == writers {
        for _ in 0..<20 { _ = try? TimingCacheFile.merge([path, other], into: path) }
        return
      }
      guard var file = try? TimingCacheFile(path: path) else { return }
      for index in 0..<count {
        let entries = (0..<3).map { Self.entry("\(writer).\(index).\($0)", 1e-6 * Double(index + 1)) }
        try? file.add(entries)
      }
    }
    let found = try TimingCacheFile(path: path).cache
    #expect(found.damagedLines.isEmpty)
    #expect(found.sorted.count == 3 * writers * count + 1)
  }

  /// A writer that was killed leaves half a line, which costs no other.
  @Test func halfALineCostsNoOther() throws {
    let path = FileManager.default.temporaryDirectory.appendingPathComponent("apus-timings-\(UUID().uuidString)").path
    defer { try? FileManager.default.removeItem(atPath: path) }
    try (Self.cache([Self.entry("a", 1e-6)]).text + "half a li").write(toFile: path, atomically: true, encoding: .utf8)
    var file = try TimingCacheFile(path: path)
    try file.add([Self.entry("b", 2e-6)])
    let found = try TimingCacheFile(path: path).cache
    #expect(found.sorted.map(\.key) == ["a", "b"] && found.damagedLines == [3])
  }
}
