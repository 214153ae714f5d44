; A program for Windows that notes how it was started, in a file beside it. As wsl.exe it does to the
; distribution's disk what the real one does.

Unicode true
Target amd64-unicode
!include FileFunc.nsh
!include LogicLib.nsh
Name "recorder"
OutFile "${OUT}"
SilentInstall silent
RequestExecutionLevel user
SetCompress off

Section
  FileOpen $0 "$EXEDIR\started.txt" a
  FileSeek $0 0 END
  FileWriteUTF16LE $0 "$CMDLINE$\r$\n"
  FileClose $0
  ${GetParameters} $1
  ${GetOptions} $1 "--unregister" $2
  ${IfNot} ${Errors}
    Delete "$LOCALAPPDATA\Idlebloom\linux\ext4.vhdx"
  ${EndIf}
SectionEnd
