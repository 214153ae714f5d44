@echo off
rem Idlebloom's commands, as on Linux: idlebloom ask "What is a bloom?"; idlebloom check tells what this PC lacks.
setlocal
set IDLEBLOOM_WINDOWS=%~dp0
set PYTHONPATH=%LOCALAPPDATA%\Idlebloom\env\Lib\site-packages\idlebloom\_app
set PYTHONUTF8=1
if not exist "%LOCALAPPDATA%\Idlebloom\env\Scripts\python.exe" (
  echo Start Idlebloom from the start menu first: it sets itself up. 1>&2
  exit /b 1
)
if "%~1"=="check" (
  "%LOCALAPPDATA%\Idlebloom\env\Scripts\python.exe" -m desktop.wsl_setup check
) else (
  "%LOCALAPPDATA%\Idlebloom\env\Scripts\python.exe" -m idlebloom %*
)
