/// Finds what a user may have meant by a name that is not known.
public enum Spelling {
  /// The candidate nearest to `word`, if it differs by few enough letters to be a slip.
  public static func nearest(to word: String, in candidates: some Sequence<String>) -> String? {
    let letters = Array(word.lowercased())
    let limit = letters.count < 3 ? 0 : max(1, letters.count / 3)
    var best: (name: String, distance: Int)?
    for candidate in candidates {
      let distance = distance(letters, Array(candidate.lowercased()))
      if distance <= limit, distance < best?.distance ?? .max { best = (candidate, distance) }
    }
    return best?.name
  }

  /// A hint naming the nearest candidate, or all of them when none is near.
  public static func hint(for word: String, in candidates: [String]) -> String {
    if let nearest = nearest(to: word, in: candidates) { return "Did you mean '\(nearest)'?" }
    if candidates.isEmpty { return "There are none." }
    let listed = candidates.prefix(12).joined(separator: ", ")
    return "Known: \(listed)\(candidates.count > 12 ? ", …" : "")."
  }

  /// Insertions, deletions and substitutions that lead from one word to the other.
  private static func distance(_ a: [Character], _ b: [Character]) -> Int {
    var row = Array(0...b.count)
    for (i, left) in a.enumerated() {
      var diagonal = row[0]
      row[0] = i + 1
      for (j, right) in b.enumerated() {
        let cost = min(row[j] + 1, row[j + 1] + 1, diagonal + (left == right ? 0 : 1))
        diagonal = row[j + 1]
        row[j + 1] = cost
      }
    }
    return row[b.count]
  }
}
