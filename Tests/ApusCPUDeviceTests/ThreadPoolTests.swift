#if os(Linux)
  import Foundation
  import TestSupport
  import Testing

  @testable import ApusCPUDevice

  /// What the threads of a pool do while nobody needs them, and where they are.
  @Suite struct ThreadPoolTests {
    /// Folders of the process's threads of a name, as the system shows them.
    private static func threads(_ name: String) throws -> Set<String> {
      let folder = "/proc/self/task"
      return try Set(
        FileManager.default.contentsOfDirectory(atPath: folder).map { "\(folder)/\($0)" }.filter {
          (try? String(contentsOfFile: "\($0)/comm", encoding: .utf8)) == name + "\n"
        })
    }

    /// The threads that a body starts, once they are there.
    private static func started<Result>(_ name: String, _ body: () -> Result) throws -> (Result, Set<String>) {
      let before = try threads(name)
      let result = body()
      let end = ContinuousClock.now + .seconds(20)
      var found: Set<String> = []
      while found.isEmpty, ContinuousClock.now < end {
        Thread.sleep(forTimeInterval: 0.01)
        found = try threads(name).subtracting(before)
      }
      return (result, found)
    }

    /// Seconds for which a thread has run.
    private static func seconds(_ thread: String) throws -> Double {
      let words = try String(contentsOfFile: "\(thread)/schedstat", encoding: .utf8).split(separator: " ")
      return (Double(words.first ?? "") ?? 0) / 1e9
    }

    @Test func threadsWithoutWorkRest() throws {
      let (pool, threads) = try Self.started("apus-12") { ThreadPool(threadCount: 13) }
      #expect(!threads.isEmpty)
      let isAtRest = try holdsInOneTry(of: 20) {
        Thread.sleep(forTimeInterval: 0.2)
        let before = try threads.map(Self.seconds)
        Thread.sleep(forTimeInterval: 0.5)
        return try zip(threads, before).allSatisfy { try Self.seconds($0) - $1 < 0.02 }
      }
      #expect(isAtRest)
      withExtendedLifetime(pool) {}
    }

    @Test func threadsStayWhereTheyArePut() throws {
      let (pool, threads) = try Self.started("apus-14") { ThreadPool(threadCount: 15, isPinned: true) }
      #expect(!threads.isEmpty)
      for thread in threads {
        var allowed: Substring?
        let end = ContinuousClock.now + .seconds(20)
        // A thread has its name before it goes to its place.
        repeat {
          let status = try String(contentsOfFile: "\(thread)/status", encoding: .utf8)
          allowed =
            status.split(separator: "\n").first { $0.hasPrefix("Cpus_allowed_list:") }?.split(separator: "\t").last
        } while Int(allowed ?? "") == nil && ContinuousClock.now < end
        #expect(Int(allowed ?? "") != nil, "\(allowed ?? "")")
      }
      withExtendedLifetime(pool) {}
    }
  }
#endif
