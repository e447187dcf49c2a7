import Testing

@testable import ApusCLI

@Suite struct PrintingTests {
  @Test func jsonKeepsOrderAndEscapes() {
    let document = JSON.object([
      ("z", .int(1)), ("a", .array([.string("q\"\\\n\u{1}"), .null, .bool(true)])), ("m", .number(.nan)),
      ("o", .array([.object([("k", .number(0.5))])])), ("e", .object([])),
    ])
    #expect(
      document.description == """
        {
          "z": 1,
          "a": ["q\\"\\\\\\n\\u0001", null, true],
          "m": null,
          "o": [
            {
              "k": 0.5
            }
          ],
          "e": {}
        }
        """)
  }

  @Test func tableAligns() {
    var table = Table([("name", .left), ("ms", .right)])
    table.add(["conv", "1.25"])
    table.add(["a longer name", "10.0"])
    #expect(table.text == "name             ms\nconv           1.25\na longer name  10.0")
  }

  @Test func units() {
    #expect(Units.bytes(1023) == "1023 B" && Units.bytes(1536) == "1.5 KiB" && Units.bytes(3 << 30) == "3.0 GiB")
    #expect(Units.fixed(-1.005, 1) == "-1.0" && Units.fixed(-0.01, 1) == "0.0" && Units.fixed(2.999, 2) == "3.00")
    #expect(Units.fixed(.infinity, 2) == "inf")
    #expect(
      Units.scientific(1.2345e-7) == "1.23e-07" && Units.scientific(0) == "0" && Units.scientific(9.999) == "1.00e+01")
  }

  @Test func progressLine() {
    #expect(
      ProgressBar.line("compile", 3, 12, elapsed: .seconds(3)) == "compile ██████░░░░░░░░░░░░░░░░░░ 3/12  9.0 s left")
    #expect(ProgressBar.line("read", 0, 0, elapsed: .seconds(3)) == "read …")
  }
}
