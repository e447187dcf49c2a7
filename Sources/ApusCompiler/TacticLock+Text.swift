package import ApusCore
import ApusOps
import ApusPlan

extension TacticLock {
  static let header = "apus-lock 1"

  /// The text that ``init(text:path:)`` reads.
  package var text: String {
    var text = "\(Self.header)\n# step TACTIC ELEMENT-TYPES MEASURED NODES, run OPERATIONS SECONDS\n"
    for (word, wishes) in [("fuse", wishes.together), ("no-fuse", wishes.apart)] {
      for names in wishes { text += ([word] + names.map(JSONText.quoted)).joined(separator: " ") + "\n" }
    }
    for wish in wishes.layouts {
      text += (["layout", wish.layout.rawValue] + wish.nodes.map(JSONText.quoted)).joined(separator: " ") + "\n"
    }
    for section in sections {
      text += "\ntarget \(JSONText.quoted(section.target)) profile \(JSONText.quoted(section.profile)) "
      text += "compiler \(JSONText.quoted(section.compiler))\n"
      for line in section.lines {
        let time = line.seconds.map { TimingCache.microseconds($0) + "us" } ?? "-"
        text += (["step", JSONText.quoted(line.tactic), line.precision, time] + line.nodes.map(JSONText.quoted))
          .joined(separator: " ")
        text += "\n"
      }
      for timing in section.timings { text += "run \(timing.work) \(timing.seconds)\n" }
    }
    return text
  }

  /// Reads the text of a file.
  ///
  /// - Throws: ``BuildError`` `APUS-B-0061` when it is no lock of this version, `-0062` with every line that is malformed.
  package init(text: String, path: String) throws(BuildError) {
    self.path = path
    var problems: [Diagnostic] = []
    for (index, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
      if index == 0 {
        if line == Self.header { continue }
        throw BuildError(
          "APUS-B-0061", "this is no lock of version 1: it begins with '\(line.prefix(40))'", place: path,
          hint: "Name a file that `apus build --write-lock` wrote.")
      }
      if line.isEmpty || line.hasPrefix("#") { continue }
      if !read(line, number: index + 1) {
        problems.append(
          Diagnostic(
            "APUS-B-0062", "this is no line of a lock: \(line.prefix(60))", place: "\(path), line \(index + 1)",
            hint:
              "A line is 'fuse \"NODE\" …', 'no-fuse \"NODE\" …', 'layout LAYOUT \"NODE\" …', 'target \"…\" profile \"…\" compiler \"…\"', 'step \"TACTIC\" TYPES TIME \"NODE\" …' "
              + "or 'run OPERATIONS SECONDS'."))
      }
    }
    if !problems.isEmpty { throw BuildError(problems: problems) }
  }

  /// Reads a lock from a file.
  ///
  /// - Throws: ``BuildError`` as ``init(text:path:)``, `APUS-B-0013` when the file cannot be read.
  package init(path: String) throws(BuildError) {
    let text: String
    do {
      let file = try MappedFile(path: path)
      text = withExtendedLifetime(file) { String(decoding: file.bytes, as: UTF8.self) }
    } catch { throw BuildError("APUS-B-0013", "\(error)", hint: "Name a lock that --write-lock wrote.") }
    try self.init(text: text, path: path)
  }

  /// Takes a line in; false when it is malformed.
  private mutating func read(_ line: Substring, number: Int) -> Bool {
    guard let words = LockWords(line).words, let first = words.first else { return false }
    if first == .bare("target") {
      guard words.count == 6, let target = words[1].quoted, words[2] == .bare("profile"), let profile = words[3].quoted,
        words[4] == .bare("compiler"), let compiler = words[5].quoted
      else { return false }
      sections.append(Section(target: target, profile: profile, compiler: compiler))
      return true
    }
    if sections.isEmpty {
      let names = words.dropFirst().compactMap(\.quoted)
      if names.isEmpty || names.count != words.count - (first == .bare("layout") ? 2 : 1) { return false }
      switch first {
      case .bare("layout"):
        guard let layout = words[1].bare.flatMap(ImageLayout.init(rawValue:)) else { return false }
        wishes.layouts.append(Wishes.Layout(names, layout))
      case .bare("fuse"): wishes.together.append(names)
      case .bare("no-fuse"): wishes.apart.append(names)
      default: return false
      }
      return true
    }
    let section = sections.count - 1
    if first == .bare("run") {
      guard words.count == 3, let work = words[1].bare.flatMap({ Int($0) }),
        let seconds = words[2].bare.flatMap({ Double($0) }), work >= 0, seconds.isFinite, seconds >= 0
      else { return false }
      sections[section].timings.append(Timing(work: work, seconds: seconds))
      return true
    }
    guard first == .bare("step"), words.count >= 4, let tactic = words[1].quoted, let precision = words[2].bare,
      let time = words[3].bare
    else { return false }
    let nodes = words.dropFirst(4).compactMap(\.quoted)
    let seconds = time.hasSuffix("us") ? Double(time.dropLast(2)).map { $0 / 1e6 } : nil
    guard nodes.count == words.count - 4, time == "-" || seconds?.isFinite == true else { return false }
    sections[section].lines.append(
      Line(nodes: nodes, tactic: tactic, precision: precision, seconds: seconds, number: number))
    return true
  }
}

/// The words of a line: bare ones, and quoted ones as JSON spells them.
private struct LockWords {
  enum Word: Equatable {
    case bare(String)
    case quoted(String)

    var bare: String? { if case .bare(let text) = self { text } else { nil } }
    var quoted: String? { if case .quoted(let text) = self { text } else { nil } }
  }

  /// Nil when a quote is left open or an escape is not known.
  let words: [Word]?

  init(_ line: Substring) {
    var words: [Word] = []
    var rest = line.unicodeScalars[...]
    while let next = rest.first {
      if next == " " {
        rest.removeFirst()
      } else if next == "\"" {
        guard let text = JSONText.takeQuoted(from: &rest) else {
          self.words = nil
          return
        }
        words.append(.quoted(text))
      } else {
        let word = rest.prefix { $0 != " " }
        words.append(.bare(String(String.UnicodeScalarView(word))))
        rest = rest.dropFirst(word.count)
      }
    }
    self.words = words
  }
}
