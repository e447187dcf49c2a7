import Dispatch

/// A 64-bit checksum against damage, not against intent.
///
/// Bytes are summed in pieces, each for itself, so that the processors share the work; the sums of the pieces are summed
/// again. Within a piece each of eight lanes takes every eighth 8-byte word, by steps that are one-to-one in the word and in
/// the lane: a change within one word is always found.
///
/// - Source: multipliers and avalanche are those of xxHash64 (Collet).
package enum Checksum {
  /// Bytes of a piece.
  package static let pieceSize = 1 << 20

  private static let prime1: UInt64 = 0x9E37_79B1_85EB_CA87
  private static let prime2: UInt64 = 0xC2B2_AE3D_27D4_EB4F
  private static let prime3: UInt64 = 0x1656_67B1_9E37_79F9

  package static func of(_ bytes: UnsafeRawBufferPointer) -> UInt64 {
    if bytes.count <= pieceSize { return ofPiece(bytes) }
    let count = (bytes.count + pieceSize - 1) / pieceSize
    let sums = [UInt64](unsafeUninitializedCapacity: count) { sums, filled in
      nonisolated(unsafe) let (source, target) = (bytes, sums)
      DispatchQueue.concurrentPerform(iterations: count) { piece in
        let range = piece * pieceSize..<min((piece + 1) * pieceSize, source.count)
        target.initializeElement(at: piece, to: ofPiece(UnsafeRawBufferPointer(rebasing: source[range])).littleEndian)
      }
      filled = count
    }
    return avalanche(sums.withUnsafeBytes { of($0) } ^ UInt64(truncatingIfNeeded: bytes.count) &* prime2)
  }

  private static func ofPiece(_ bytes: UnsafeRawBufferPointer) -> UInt64 {
    // By name, not as a vector: without AVX-512 a product of vectors takes several times as long.
    var (a, b, c, d) = (prime1, prime1 &* 2, prime1 &* 3, prime1 &* 4)
    var (e, f, g, h) = (prime1 &* 5, prime1 &* 6, prime1 &* 7, prime1 &* 8)
    let stripes = bytes.count / 64
    if let base = bytes.baseAddress {
      for stripe in 0..<stripes {
        let place = base + stripe &* 64
        a = mixed(a, word(place, 0))
        b = mixed(b, word(place, 1))
        c = mixed(c, word(place, 2))
        d = mixed(d, word(place, 3))
        e = mixed(e, word(place, 4))
        f = mixed(f, word(place, 5))
        g = mixed(g, word(place, 6))
        h = mixed(h, word(place, 7))
      }
    }
    var sum = UInt64(truncatingIfNeeded: bytes.count) &* prime3
    for lane in [a, b, c, d, e, f, g, h] { sum = mixed(sum, avalanche(lane)) }
    for byte in bytes[(stripes * 64)...] { sum = mixed(sum, UInt64(byte)) }
    return avalanche(sum)
  }

  @inline(__always)
  private static func word(_ place: UnsafeRawPointer, _ index: Int) -> UInt64 {
    UInt64(littleEndian: place.loadUnaligned(fromByteOffset: 8 &* index, as: UInt64.self))
  }

  @inline(__always)
  private static func mixed(_ lane: UInt64, _ word: UInt64) -> UInt64 {
    let changed = lane ^ word
    return ((changed &<< 31) | (changed &>> 33)) &* prime1
  }

  private static func avalanche(_ x: UInt64) -> UInt64 {
    let y = (x ^ x >> 33) &* prime2
    let z = (y ^ y >> 29) &* prime3
    return z ^ z >> 32
  }
}
