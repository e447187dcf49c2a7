/// A 128-bit hash of content, for names of cached files and for finding equal constants. Not cryptographic.
package struct ContentHash: Hashable, Sendable {
  package private(set) var low: UInt64 = 0xcbf2_9ce4_8422_2325
  package private(set) var high: UInt64 = 0x8422_2325_cbf2_9ce4

  package init() {}

  package mutating func add(_ word: UInt64) {
    low = (low ^ word) &* 0x9e37_79b9_7f4a_7c15
    low ^= low >> 29
    high = (high ^ (word &+ low)) &* 0xbf58_476d_1ce4_e5b9
    high ^= high >> 32
  }

  package mutating func add(_ bytes: UnsafeRawBufferPointer) {
    var offset = 0
    while offset + 8 <= bytes.count {
      add(bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
      offset += 8
    }
    var tail: UInt64 = 0
    for (shift, byte) in bytes[offset...].enumerated() { tail |= UInt64(byte) << UInt64(8 * shift) }
    add(tail)
    add(UInt64(bytes.count))
  }

  package mutating func add(_ text: String) {
    var text = text
    text.withUTF8 { add(UnsafeRawBufferPointer($0)) }
  }

  /// Hexadecimal text of the hash of several strings.
  package static func hex(_ texts: [String]) -> String {
    var hash = ContentHash()
    for text in texts { hash.add(text) }
    return hash.hex
  }

  package var hex: String {
    [high, low].map { word in
      let digits = String(word, radix: 16)
      return String(repeating: "0", count: 16 - digits.count) + digits
    }.joined()
  }
}
