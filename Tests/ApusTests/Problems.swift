import ApusCore

/// Code and place of each problem that `body` throws.
func problems(_ body: () throws -> Void) -> [String] {
  do {
    try body()
    return []
  } catch let error as any RoomError { return error.problems.map { "\($0.code) \($0.place)" } } catch {
    return ["\(error)"]
  }
}
