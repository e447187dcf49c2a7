import ApusPlan
import Testing

@Suite struct ChecksumTests {
  private func bytes(_ count: Int) -> [UInt8] {
    (0..<count).map { UInt8(truncatingIfNeeded: $0 * $0 * 31 + $0 * 7 + ($0 >> 8) * 13) }
  }

  private func sum(_ bytes: [UInt8]) -> UInt64 { bytes.withUnsafeBytes { Checksum.of($0) } }

  /// Sums by another program: what is in files does not change.
  @Test(
    arguments: [
      (0, 0xC03B_CF87_2E06_D811), (1, 0x6D3E_BA0B_6C9B_E7AD), (64, 0xDC34_5104_A085_EB0B),
      (1000, 0x6FC2_F81E_F432_1074),
      (1_048_576, 0x8525_F62D_0053_7FE1), (1_048_577, 0xC181_5A5E_4DB9_4CC8),
      (2_621_447, 0x058C_0A51_E031_271F),
    ] as [(Int, UInt64)])
  func sumsStayAsTheyAre(_ count: Int, _ expected: UInt64) { #expect(sum(bytes(count)) == expected) }

  @Test func changesInEveryPieceAreFound() {
    let right = bytes(3 * Checksum.pieceSize + 100)
    let expected = sum(right)
    for position in stride(from: 0, to: right.count, by: 65_537) {
      for bit in [0, 7] {
        var damaged = right
        damaged[position] ^= 1 << UInt8(bit)
        #expect(sum(damaged) != expected, "byte \(position)")
      }
    }
  }

  /// What a disk or a copy does: blocks that are zero, missing, twice there or in another order.
  @Test(arguments: [64, 512, 4096, Checksum.pieceSize])
  func blocksInWrongPlacesAreFound(_ size: Int) {
    // No stretch is like another.
    let right = (0..<3 * Checksum.pieceSize + 100).map { UInt8(truncatingIfNeeded: ($0 * 0x9E37_79B1) >> 24) }
    let expected = sum(right)
    var damaged = right
    damaged.replaceSubrange(size..<2 * size, with: right[..<size])
    #expect(sum(damaged) != expected, "twice")
    damaged.replaceSubrange(0..<size, with: right[size..<2 * size])
    #expect(sum(damaged) != expected, "exchanged")
    damaged = right
    damaged.replaceSubrange(size..<2 * size, with: repeatElement(0, count: size))
    #expect(sum(damaged) != expected, "zero")
    damaged.removeSubrange(size..<2 * size)
    #expect(sum(damaged) != expected, "missing")
    #expect(sum([UInt8](repeating: 0, count: size)) != sum([UInt8](repeating: 0, count: 2 * size)))
  }
}
