package import ApusCore

/// A timing cache on disk: read once, and added to at the end by any number of processes.
package struct TimingCacheFile {
  package let path: String
  package private(set) var cache: TimingCache

  /// Reads the file; one that is not there is empty.
  ///
  /// - Throws: ``BuildError`` `APUS-B-0056` when it is no timing cache, `-0013` when it cannot be read.
  package init(path: String) throws(BuildError) {
    self.path = path
    if !AtomicFile.exists(path) {
      cache = TimingCache()
      return
    }
    let text: String
    do {
      let file = try MappedFile(path: path)
      text = withExtendedLifetime(file) { String(decoding: file.bytes, as: UTF8.self) }
    } catch { throw BuildError("APUS-B-0013", "\(error)", hint: "Name another file with --timing-cache.") }
    cache = try TimingCache(text: text, path: path)
  }

  /// A file that is not there yet.
  package static func empty(_ path: String) -> TimingCacheFile { TimingCacheFile(path: path, cache: TimingCache()) }

  private init(path: String, cache: TimingCache) {
    self.path = path
    self.cache = cache
  }

  /// Keeps entries in memory and at the end of the file.
  package mutating func add(_ entries: [TimingCache.Entry]) throws(BuildError) {
    if entries.isEmpty { return }
    for entry in entries { cache.add(entry) }
    do { try AppendFile(path: path).append(entries.map(\.line).joined(), header: TimingCache.header + "\n") } catch {
      throw BuildError("APUS-B-0013", "\(error)", hint: "Name another file with --timing-cache.")
    }
  }

  /// Joins files into one, which may be among them: what others add to that meanwhile is kept.
  ///
  /// - Returns: what the file holds.
  package static func merge(_ paths: [String], into output: String) throws -> TimingCache {
    var merged = TimingCache()
    for path in paths where path != output { merged.merge(try TimingCacheFile(path: path).cache) }
    try AppendFile.exclusively(output) {
      if paths.contains(output) { merged.merge(try TimingCacheFile(path: output).cache) }
      try AtomicFile.write(Array(merged.text.utf8), to: output)
    }
    return merged
  }
}
