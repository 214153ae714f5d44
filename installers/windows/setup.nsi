; The setup for Windows, per user: no administrator is asked for. Made by installers/build.py, which defines
; VERSION, STAGE (what is laid down), OUT, PYTHON and BYTES.
;
; Idlebloom-VERSION-setup.exe /S installs silently (/LOGIN: also starts at login);
; uninstall.exe /S removes it silently and keeps models, conversations and settings (/ALL: removes these too).

Unicode true
Target amd64-unicode
!include MUI2.nsh
!include FileFunc.nsh
!include LogicLib.nsh
!include x64.nsh

Name "Idlebloom"
OutFile "${OUT}"
InstallDir "$LOCALAPPDATA\Programs\Idlebloom"
RequestExecutionLevel user
SetDateSave off
SetCompressor zlib
BrandingText "Idlebloom ${VERSION}"
VIProductVersion "${VERSION}.0"
VIAddVersionKey ProductName "Idlebloom"
VIAddVersionKey ProductVersion "${VERSION}"
VIAddVersionKey FileVersion "${VERSION}"
VIAddVersionKey FileDescription "Idlebloom's setup"
VIAddVersionKey LegalCopyright "Idlebloom contributors, Apache-2.0"

!define MUI_ICON "${STAGE}\idlebloom.ico"
!define MUI_UNICON "${STAGE}\idlebloom.ico"
!define MUI_ABORTWARNING
!define MUI_COMPONENTSPAGE_NODESC
!define MUI_FINISHPAGE_RUN "$INSTDIR\Idlebloom.exe"
!define DATA "$LOCALAPPDATA\Idlebloom"
!define UNINSTALL "Software\Microsoft\Windows\CurrentVersion\Uninstall\Idlebloom"
!define RUN "Software\Microsoft\Windows\CurrentVersion\Run"

!insertmacro MUI_PAGE_LICENSE "${STAGE}\LICENSE.txt"
!insertmacro MUI_PAGE_COMPONENTS
!insertmacro MUI_PAGE_INSTFILES
!insertmacro MUI_PAGE_FINISH
!insertmacro MUI_UNPAGE_CONFIRM
!insertmacro MUI_UNPAGE_INSTFILES
!insertmacro MUI_LANGUAGE "English"
!insertmacro MUI_LANGUAGE "German"

LangString ASK_KEEP ${LANG_ENGLISH} "Keep the fetched models, conversations and settings for a later installation?$\n$\nThey lie in ${DATA}."
LangString ASK_KEEP ${LANG_GERMAN} "Die geholten Modelle, Gespräche und Einstellungen für eine spätere Installation behalten?$\n$\nSie liegen in ${DATA}."
LangString NOT_KEPT ${LANG_ENGLISH} "The models could not be set aside, because Windows' Linux still holds them. Nothing was removed. Open the Terminal, type: wsl.exe --shutdown – then uninstall again."
LangString NOT_KEPT ${LANG_GERMAN} "Die Modelle konnten nicht beiseitegelegt werden, weil das Linux von Windows sie noch hält. Nichts wurde entfernt. Öffne das Terminal, gib ein: wsl.exe --shutdown – deinstalliere dann noch einmal."
LangString AT_LOGIN ${LANG_ENGLISH} "Start at login"
LangString AT_LOGIN ${LANG_GERMAN} "Beim Anmelden starten"
LangString ONLY_64 ${LANG_ENGLISH} "Idlebloom needs a 64-bit Windows 10 or 11."
LangString ONLY_64 ${LANG_GERMAN} "Idlebloom braucht ein Windows 10 oder 11 mit 64 Bit."

; What of Idlebloom runs, by where it lies: other programs of Python are let be. The node ends with its tray.
!macro EndPrograms
  nsExec::Exec `powershell.exe -NoProfile -NonInteractive -Command "Get-Process python,pythonw,uv -ErrorAction SilentlyContinue | Where-Object { $$_.Path -like (Join-Path $$env:LOCALAPPDATA 'Idlebloom\*') } | Stop-Process -Force"`
  Pop $0
!macroend

; A secret of Windows' keyring: a generic credential, of kind 1.
!macro Forget NAME
  System::Call 'advapi32::CredDeleteW(w "${NAME}", i 1, i 0)'
!macroend

!define PROGRAMS "$LOCALAPPDATA\Programs\Idlebloom"

; Always there, whatever /D= says: the uninstaller removes the whole folder.
Function .onInit
  StrCpy $INSTDIR "${PROGRAMS}"
  ${IfNot} ${RunningX64}
    MessageBox MB_ICONSTOP "$(ONLY_64)" /SD IDOK
    Abort
  ${EndIf}
FunctionEnd

Section "Idlebloom"
  SectionIn RO
  !insertmacro EndPrograms
  RMDir /r "$INSTDIR" ; of an older version
  SetOutPath "$INSTDIR"
  File "${STAGE}\*.*"
  SetCompress off ; it is packed already
  File "${STAGE}\packed\*.*"
  SetCompress auto
  WriteUninstaller "$INSTDIR\uninstall.exe"
  CreateShortcut "$SMPROGRAMS\Idlebloom.lnk" "$INSTDIR\Idlebloom.exe"
  WriteRegStr HKCU "${UNINSTALL}" "DisplayName" "Idlebloom"
  WriteRegStr HKCU "${UNINSTALL}" "DisplayVersion" "${VERSION}"
  WriteRegStr HKCU "${UNINSTALL}" "Publisher" "Idlebloom contributors"
  WriteRegStr HKCU "${UNINSTALL}" "DisplayIcon" "$INSTDIR\Idlebloom.exe"
  WriteRegStr HKCU "${UNINSTALL}" "InstallLocation" "$INSTDIR"
  WriteRegStr HKCU "${UNINSTALL}" "UninstallString" '"$INSTDIR\uninstall.exe"'
  WriteRegStr HKCU "${UNINSTALL}" "QuietUninstallString" '"$INSTDIR\uninstall.exe" /S'
  WriteRegDWORD HKCU "${UNINSTALL}" "NoModify" 1
  WriteRegDWORD HKCU "${UNINSTALL}" "NoRepair" 1
  WriteRegDWORD HKCU "${UNINSTALL}" "EstimatedSize" ${KILOBYTES}
  ; Python now, so that the first start shows something at once. Where that fails, the first start tries again.
  DetailPrint "Python ${PYTHON}"
  nsExec::ExecToLog '"$INSTDIR\uv.exe" python install ${PYTHON} --install-dir "${DATA}\python" --no-bin --no-registry --no-cache'
  Pop $0
SectionEnd

Section /o "$(AT_LOGIN)" LOGIN
  WriteRegStr HKCU "${RUN}" "Idlebloom" '"$INSTDIR\Idlebloom.exe"'
SectionEnd

Section "-login by a silent setup"
  ${GetParameters} $1
  ${GetOptions} $1 "/LOGIN" $2
  ${IfNot} ${Errors}
    WriteRegStr HKCU "${RUN}" "Idlebloom" '"$INSTDIR\Idlebloom.exe"'
  ${EndIf}
SectionEnd

Function un.onInit
  StrCpy $INSTDIR "${PROGRAMS}"
FunctionEnd

Section "Uninstall"
  StrCpy $3 keep
  ${GetParameters} $1
  ${GetOptions} $1 "/ALL" $2
  ${IfNot} ${Errors}
    StrCpy $3 all
  ${Else}
    MessageBox MB_YESNO|MB_ICONQUESTION "$(ASK_KEEP)" /SD IDYES IDYES +2
    StrCpy $3 all
  ${EndIf}
  !insertmacro EndPrograms
  ; The distribution is ours if its disk lies in our folder.
  ${If} ${FileExists} "${DATA}\linux\ext4.vhdx"
    nsExec::Exec '"$SYSDIR\wsl.exe" --terminate Idlebloom'
    Pop $0
    ${If} $3 == keep
      Call un.SetAside
    ${EndIf}
    nsExec::Exec '"$SYSDIR\wsl.exe" --unregister Idlebloom'
    Pop $0
  ${EndIf}
  ${If} $3 == all
    RMDir /r "${DATA}"
    ; By the names that Python's keyring gives them: the last one set has none of its own.
    !insertmacro Forget "idlebloom"
    !insertmacro Forget "api_key@idlebloom"
    !insertmacro Forget "hub_token@idlebloom"
    !insertmacro Forget "swarm_secret@idlebloom"
  ${Else}
    RMDir /r "${DATA}\env"
    RMDir /r "${DATA}\python"
    RMDir /r "${DATA}\wheels"
    RMDir /r "${DATA}\uv-cache"
    RMDir /r "${DATA}\linux"
    Delete "${DATA}\*.ready"
    Delete "${DATA}\setup.lock"
    RMDir "${DATA}" ; where nothing was to be kept
  ${EndIf}
  Delete "$SMPROGRAMS\Idlebloom.lnk"
  DeleteRegValue HKCU "${RUN}" "Idlebloom"
  DeleteRegKey HKCU "${UNINSTALL}"
  SetOutPath "$TEMP"
  RMDir /r "$INSTDIR"
SectionEnd

; The disk goes out of the way of --unregister, which would delete it. Windows lets go of it within seconds.
Function un.SetAside
  CreateDirectory "${DATA}\kept"
  StrCpy $4 0
  ${DoWhile} $4 < 60
    ClearErrors
    Rename "${DATA}\linux\ext4.vhdx" "${DATA}\kept\ext4.vhdx"
    ${IfNot} ${Errors}
      Return
    ${EndIf}
    Sleep 1000
    IntOp $4 $4 + 1
  ${Loop}
  MessageBox MB_ICONSTOP "$(NOT_KEPT)" /SD IDOK
  Abort "$(NOT_KEPT)"
FunctionEnd
