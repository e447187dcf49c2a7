/// A protobuf message as a tree of fields: written by hand, mutated, and turned into bytes.
package struct Proto: Sendable, Hashable {
  package enum Value: Sendable, Hashable {
    case number(UInt64)
    case float(Float)
    case bytes([UInt8])
    case message(Proto)
  }

  package struct Field: Sendable, Hashable {
    package var number: Int
    package var value: Value
  }

  package var fields: [Field] = []

  package init() {}

  package func adding(_ number: Int, _ value: Int) -> Proto {
    adding(number, .number(UInt64(bitPattern: Int64(value))))
  }
  package func adding(_ number: Int, _ value: Float) -> Proto { adding(number, .float(value)) }
  package func adding(_ number: Int, _ value: String) -> Proto { adding(number, .bytes(Array(value.utf8))) }
  package func adding(_ number: Int, _ value: [UInt8]) -> Proto { adding(number, .bytes(value)) }
  package func adding(_ number: Int, _ value: Proto) -> Proto { adding(number, .message(value)) }
  package func adding(_ number: Int, _ values: [Proto]) -> Proto { values.reduce(self) { $0.adding(number, $1) } }
  package func adding(_ number: Int, _ values: [String]) -> Proto { values.reduce(self) { $0.adding(number, $1) } }
  package func adding(_ number: Int, _ values: [Int]) -> Proto { values.reduce(self) { $0.adding(number, $1) } }

  private func adding(_ number: Int, _ value: Value) -> Proto {
    var copy = self
    copy.fields.append(Field(number: number, value: value))
    return copy
  }

  package var bytes: [UInt8] {
    var bytes: [UInt8] = []
    for field in fields {
      let key = UInt64(field.number) << 3
      switch field.value {
      case .number(let value):
        Self.append(key, to: &bytes)
        Self.append(value, to: &bytes)
      case .float(let value):
        Self.append(key | 5, to: &bytes)
        withUnsafeBytes(of: value.bitPattern.littleEndian) { bytes += $0 }
      case .bytes(let content):
        Self.append(key | 2, to: &bytes)
        Self.append(UInt64(content.count), to: &bytes)
        bytes += content
      case .message(let message):
        let content = message.bytes
        Self.append(key | 2, to: &bytes)
        Self.append(UInt64(content.count), to: &bytes)
        bytes += content
      }
    }
    return bytes
  }

  private static func append(_ value: UInt64, to bytes: inout [UInt8]) {
    var rest = value
    while rest >= 0x80 {
      bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
      rest >>= 7
    }
    bytes.append(UInt8(rest))
  }
}
