; Idlebloom.exe: starts launch.py with the Python that uv fetched into the user's folder; fetches that first
; where it is missing. Made by installers/build.py, which defines VERSION, ICON, OUT and PYTHON.

Unicode true
Target amd64-unicode
!include LogicLib.nsh
!include FileFunc.nsh

Name "Idlebloom"
OutFile "${OUT}"
Icon "${ICON}"
RequestExecutionLevel user
SilentInstall silent
SetDateSave off
VIProductVersion "${VERSION}.0"
VIAddVersionKey ProductName "Idlebloom"
VIAddVersionKey ProductVersion "${VERSION}"
VIAddVersionKey FileVersion "${VERSION}"
VIAddVersionKey FileDescription "Idlebloom"
VIAddVersionKey LegalCopyright "Idlebloom contributors, Apache-2.0"
LoadLanguageFile "${NSISDIR}\Contrib\Language files\English.nlf"
LoadLanguageFile "${NSISDIR}\Contrib\Language files\German.nlf"
LangString FETCHING ${LANG_ENGLISH} "Idlebloom fetches Python, 25 MB …"
LangString FETCHING ${LANG_GERMAN} "Idlebloom holt Python, 25 MB …"
LangString FAILED ${LANG_ENGLISH} "Idlebloom could not fetch Python ${PYTHON}. Check the network, then start Idlebloom again."
LangString FAILED ${LANG_GERMAN} "Idlebloom konnte Python ${PYTHON} nicht holen. Prüfe das Netz und starte Idlebloom dann noch einmal."

!define PLACE "$LOCALAPPDATA\Idlebloom\python"
!define PROGRAM "${PLACE}\cpython-${PYTHON}-windows-x86_64-none\pythonw.exe"

Section
  SetOutPath "$EXEDIR"
  ${IfNot} ${FileExists} "${PROGRAM}"
    Banner::show /NOUNLOAD "$(FETCHING)"
    nsExec::ExecToStack '"$EXEDIR\uv.exe" python install ${PYTHON} --install-dir "${PLACE}" --no-bin --no-registry --no-cache'
    Pop $0
    Pop $1
    Banner::destroy
  ${EndIf}
  ${IfNot} ${FileExists} "${PROGRAM}"
    MessageBox MB_ICONSTOP "$(FAILED)$\n$\n$1"
    Abort
  ${EndIf}
  Exec '"${PROGRAM}" -I "$EXEDIR\launch.py"'
SectionEnd
