import Apus
import ApusCore
import FoundationEssentials
import Testing

@Suite struct NumPyFileTests {
  /// A file of this content for the time of a test.
  private func withFile<R>(_ bytes: [UInt8], _ body: (String) throws -> R) throws -> R {
    let path = FileManager.default.temporaryDirectory.path + "/apus-numpy-\(UInt64.random(in: 0 ... .max))"
    try AtomicFile.write(bytes, to: path)
    defer { try? FileManager.default.removeItem(atPath: path) }
    return try body(path)
  }

  private func npy(_ header: String, _ data: [UInt8]) -> [UInt8] {
    let text = Array((header + "\n").utf8)
    return [0x93] + Array("NUMPY".utf8) + [1, 0, UInt8(text.count & 255), UInt8(text.count >> 8)] + text + data
  }

  private func decode(_ base64: String) throws -> [UInt8] { Array(try #require(Data(base64Encoded: base64))) }

  @Test(arguments: DType.allCases) func roundTrip(dtype: DType) throws {
    let shape = [2, 1, 3]
    let tensor =
      dtype == .string
      ? HostTensor(strings: ["", "a", "naïve", "日本", "x y", "🦔"], shape: shape)
      : HostTensor(dtype, shape, int64s: [0, 1, 1, 0, 1, 1])
    try withFile([]) { path in
      try NumPyFile.write(tensor, to: path)
      let back = try NumPyFile.read(path, expecting: dtype)
      #expect(back.dtype == dtype && back.shape == shape)
      #expect(back.int64s == tensor.int64s && back.strings == tensor.strings)
    }
  }

  @Test func scalarsAndEmptyTensors() throws {
    for tensor in [HostTensor(scalar: 2.5, .f64), HostTensor(.i32, [0, 4])] {
      try withFile([]) { path in
        try NumPyFile.write(tensor, to: path)
        let back = try NumPyFile.read(path)
        #expect(back.shape == tensor.shape && back.doubles == tensor.doubles)
      }
    }
  }

  @Test func headerBytesAreNumPys() throws {
    // numpy.save of numpy.array([[1.5, -2]], dtype='<f4')
    let expected = try decode(
      "k05VTVBZAQB2AHsnZGVzY3InOiAnPGY0JywgJ2ZvcnRyYW5fb3JkZXInOiBGYWxzZSwgJ3NoYXBlJzogKDEsIDIpLCB9ICAgICAg"
        + "ICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIAoAAMA/AAAAwA==")
    let tensor = HostTensor(.f32, [1, 2], elements: [1.5, -2] as [Float])
    try withFile([]) { path in
      try NumPyFile.write(tensor, to: path)
      let file = FileManager.default.contents(atPath: path)
      #expect(file.map(Array.init) == expected)
    }
  }

  @Test func columnMajorAndBigEndian() throws {
    let header = "{'descr': '>i2', 'fortran_order': True, 'shape': (2, 3), }"
    try withFile(npy(header, [0, 1, 1, 4, 0, 2, 0, 5, 0, 3, 0, 6])) { path in
      let tensor = try NumPyFile.read(path)
      #expect(tensor.shape == [2, 3])
      #expect(tensor.int64s == [1, 2, 3, 260, 5, 6])
    }
  }

  @Test(arguments: [
    ("{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }", "APUS-N-0004"),
    ("{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775807, 9223372036854775807), }", "APUS-N-0004"),
    ("{'descr': '<f4', 'fortran_order': True, 'shape': (0, 4611686018427387904, 8), }", "APUS-N-0004"),
    ("{'descr': '<U0', 'fortran_order': False, 'shape': (9000000000,), }", "APUS-N-0004"),
    ("{'descr': '<c8', 'fortran_order': False, 'shape': (1,), }", "APUS-N-0003"),
    ("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }", "APUS-N-0002"),
    ("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }", "APUS-N-0002"),
    ("{'descr': '<f4', 'shape': (2,), }", "APUS-N-0002"),
    ("{'descr': '<f4", "APUS-N-0002"),
    ("", "APUS-N-0002"),
    ("{'descr': '|V2', 'fortran_order': False, 'shape': (4,), }", "APUS-N-0003"),
  ])
  func malformed(header: String, code: String) throws {
    try withFile(npy(header, [UInt8](repeating: 7, count: 8))) { path throws in
      let error = #expect(throws: NumPyError.self) { try NumPyFile.read(path) }
      #expect(error?.problems.map(\.code) == [code])
    }
  }

  @Test func foreignAndCutOff() throws {
    for bytes in [[], Array("PK\u{3}\u{4}abcdefgh".utf8), [0x93] + Array("NUMPY".utf8) + [1, 0, 200, 0]] {
      try withFile(bytes) { path in _ = #expect(throws: NumPyError.self) { try NumPyFile.read(path) } }
    }
    #expect(throws: NumPyError.self) { try NumPyFile.read("/nowhere/x.npy") }
  }

  /// numpy.savez(a=numpy.arange(3, dtype='i1')) and the same compressed.
  private static let stored =
    "UEsDBC0AAAAAAAAAIQCsmP8z//////////8FABQAYS5ucHkBABAAgwAAAAAAAACDAAAAAAAAAJNOVU1QWQEAdgB7J2Rlc2NyJzog"
    + "J3xpMScsICdmb3J0cmFuX29yZGVyJzogRmFsc2UsICdzaGFwZSc6ICgzLCksIH0gICAgICAgICAgICAgICAgICAgICAgICAgICAg"
    + "ICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAKAAECUEsBAi0DLQAAAAAAAAAhAKyY/zODAAAAgwAAAAUAAAAAAAAAAAAA"
    + "AIABAAAAAGEubnB5UEsFBgAAAAABAAEAMwAAALoAAAAAAA=="
  private static let deflated =
    "UEsDBC0AAAAIAAAAIQCsmP8z//////////8FABQAYS5ucHkBABAAgwAAAAAAAABHAAAAAAAAAJvsF+obEMnIUMZQrZ6SWpxcpG6l"
    + "oF6Taaiuo6Cell9UUpSYF59flJIKEndLzClOBYoXZyQWpAL5GsY6mjoKtQoUAC4GRiYAUEsBAi0DLQAAAAgAAAAhAKyY/zNHAAAA"
    + "gwAAAAUAAAAAAAAAAAAAAIABAAAAAGEubnB5UEsFBgAAAAABAAEAMwAAAH4AAAAAAA=="

  @Test(arguments: [stored, deflated]) func archive(base64: String) throws {
    try withFile(decode(base64)) { path in
      let archive = try NumPyArchive(contentsOf: path)
      #expect(archive.names == ["a"])
      #expect(try archive.read("a").int64s == [0, 1, 2])
      #expect(throws: NumPyError.self) { try archive.read("b") }
    }
  }

  @Test(arguments: [stored, deflated]) func damagedArchivesAreErrors(base64: String) throws {
    let bytes = try decode(base64)
    var failures = 0
    for position in bytes.indices {
      var damaged = bytes
      damaged[position] ^= 0x55
      try withFile(damaged) { path in
        do { _ = try NumPyArchive(contentsOf: path).read("a") } catch { failures += 1 }
      }
      try withFile(Array(bytes[..<position])) { path in
        _ = #expect(throws: NumPyError.self) { try NumPyArchive(contentsOf: path).read("a") }
      }
    }
    // Dates and versions may change unseen; the tensor's own bytes may not.
    #expect(failures > bytes.count / 2)
  }
}
