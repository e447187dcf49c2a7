import ApusCore
import ApusGraph
import ApusOps
import Testing

@Suite struct TextTests {
  @Test func stringsSplitAsInPython() throws {
    func split(_ text: String, _ delimiter: String, _ most: Int = -1) throws -> [String] {
      try StringSplit(delimiter: delimiter, maxSplits: most, width: someCount).reference([strings(text)])[0].strings
    }
    #expect(try split("a,,b,", ",") == ["a", "", "b", ""])
    #expect(try split("a,b,c", ",", 1) == ["a", "b,c"])
    #expect(try split("  a  b c ", "", 1) == ["a", "b c "])
    #expect(try split("   ", "") == [])
    let both = try StringSplit(delimiter: "", width: someCount).reference([strings("a b", "c")])
    #expect(both[0].strings == ["a", "b", "c", ""] && both[1].int64s == [2, 1])
  }

  @Test func stopWordsGo() throws {
    let words = strings("Monday", "tuesday", "wednesday")
    let strict = StringNormalizer(caseChange: .upper, caseSensitive: true, stopWords: ["monday"], count: someCount)
    #expect(try strict.reference([words])[0].strings == ["MONDAY", "TUESDAY", "WEDNESDAY"])
    let loose = StringNormalizer(caseChange: .none, caseSensitive: false, stopWords: ["monday"], count: someCount)
    #expect(try loose.reference([words])[0].strings == ["tuesday", "wednesday"])
    #expect(try loose.reference([strings("MONDAY")])[0].strings == [""])
  }

  @Test func patternsMatchWhole() throws {
    let op = RegexFullMatch(pattern: #"www\.[\w.-]+\.\bcom\b"#)
    #expect(try op.reference([strings("www.google.com", "www.google.comx", "x")])[0].int64s == [1, 0, 0])
    #expect(throws: EvaluationError.self) { try RegexFullMatch(pattern: "(").reference([strings("a")]) }
  }

  @Test func skippedGramsCount() throws {
    var op = TfIdfVectorizer(
      weighting: .tf, minLength: 2, maxLength: 2, maxSkip: 0, starts: [0, 4], indexes: [0, 1, 2, 3, 4, 5, 6],
      pool: .integers([2, 3, 5, 4, 5, 6, 7, 8, 6, 7]))
    let x = integers([12], [1, 1, 3, 3, 3, 7, 8, 6, 7, 5, 6, 8])
    #expect(try op.reference([x])[0].doubles == [0, 0, 0, 0, 1, 1, 1])
    op.maxSkip = 5
    #expect(try op.reference([x])[0].doubles == [0, 0, 0, 0, 1, 3, 1])
    op.weighting = .idf
    op.weights = [1, 1, 1, 1, 2, 3, 4]
    #expect(try op.reference([x])[0].doubles == [0, 0, 0, 0, 2, 3, 4])
  }

  @Test func labelsFallBack() throws {
    let op = LabelEncoder(keys: .floats([0.1, .nan]), values: .strings(["a", "b", "?"]), to: .string)
    #expect(try op.reference([floats([3], [0.1, .nan, 7])])[0].strings == ["a", "b", "?"])
  }

  @Test func stringsJoin() throws {
    let x = HostTensor(strings: ["a", "b"], shape: [2, 1])
    #expect(try StringConcat().reference([x, strings("1", "2")])[0].strings == ["a1", "a2", "b1", "b2"])
  }
}
