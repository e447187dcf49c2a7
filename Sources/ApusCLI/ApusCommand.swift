import Apus
import ApusCore
import ApusPlan
import ArgumentParser

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// The command line: one subcommand per file.
@main
struct ApusCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "apus",
    abstract: "An inference compiler and runtime.",
    discussion: """
      A model becomes an engine once, and an engine runs anywhere without a compiler:

        apus build model.onnx -o model.apus
        apus run model.apus --input images=photo.npy --output-dir out

      Exit codes: 0 all went well, 1 `apus diff` found a difference, 2 the request or a file is at fault, 70 Apus is.
      """,
    version: "apus \(Fingerprint.compilerVersion)",
    subcommands: [
      BuildCommand.self, RunCommand.self, BenchCommand.self, AdviseCommand.self, InspectCommand.self, OptCommand.self,
      TuneCommand.self, TimingCacheCommand.self, DiffCommand.self, TrtexecCommand.self, OpsCommand.self,
      KnobsCommand.self,
      DoctorCommand.self, ReduceCommand.self, ReduceWorkerCommand.self, ConformanceCommand.self,
      ConformanceWorkerCommand.self,
    ])

  static func main() {
    do {
      var command = try parseAsRoot()
      try command.run()
    } catch {
      leave(report(error))
    }
  }

  /// Prints what went wrong, each problem with its code, and gives the exit code.
  private static func report(_ error: any Error) -> Int32 {
    switch error {
    case let error as any RoomError:
      printError(error.description)
      return ExitStatus.userError
    case let error as FileError:
      printError("APUS-C-0020: \(error)")
      return ExitStatus.userError
    case let status as ExitStatus:
      return status.code
    default:
      let code = exitCode(for: error)
      let message = fullMessage(for: error)
      if code == .success {
        print(message)
        return 0
      }
      printError(message)
      return code == .validationFailure || error is ValidationError ? ExitStatus.userError : ExitStatus.internalError
    }
  }
}

/// Ends the program with a code after everything has been said.
struct ExitStatus: Error {
  static let difference: Int32 = 1
  static let userError: Int32 = 2
  static let internalError: Int32 = 70

  let code: Int32
}

/// The system call under a name that the commands' own `exit` does not hide.
private func leave(_ code: Int32) -> Never { exit(code) }
