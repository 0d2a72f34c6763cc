# PostgreSQL 15's source from Debian, for the scripts that use its suites. Sourced, never run.
#
# In: `cache`, the folder that everything is kept in; `say` and `missing`, which the script has. Out: $cache/source. Network
# only the first time.

# apt-get with package lists and sources of our own: the machine's are neither read nor changed.
own_apt() {
  apt-get -qq -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$cache/apt/sources" \
    -o Dir::State::lists="$cache/apt/lists" -o Dir::Cache="$cache/apt/cache" -o APT::Sandbox::User=root "$@"
}

# Once in a run.
own_lists() {
  local keys=/usr/share/keyrings/debian-archive-keyring.gpg
  [ -z "${lists_are_new:-}" ] || return 0
  [ -f "$keys" ] || missing "$keys" "apt-get install debian-archive-keyring"
  mkdir -p "$cache/apt/sources" "$cache/apt/lists/partial" "$cache/apt/cache/archives/partial"
  {
    printf 'Types: deb deb-src\nURIs: http://deb.debian.org/debian\nSuites: bookworm bookworm-updates\nComponents: main\nSigned-By: %s\n\n' "$keys"
    printf 'Types: deb deb-src\nURIs: http://deb.debian.org/debian-security\nSuites: bookworm-security\nComponents: main\nSigned-By: %s\n' "$keys"
  } >"$cache/apt/sources/bookworm.sources"
  own_apt update || missing "Debian's package lists" "http://deb.debian.org must be in reach the first time"
  lists_are_new=1
}

apt_versions() { # source|binary
  local shared=(-o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$cache/apt/sources"
    -o Dir::State::lists="$cache/apt/lists" -o Dir::Cache="$cache/apt/cache")
  case $1 in
    source) apt-cache "${shared[@]}" showsrc --only-source postgresql-15 | sed -n 's/^Version: //p' ;;
    binary) apt-cache "${shared[@]}" show postgresql-server-dev-15 | sed -n 's/^Version: //p' ;;
  esac
}

# The newest version of PostgreSQL 15's source that downloads.
download_source() {
  local version
  [ ! -e "$cache/source/COPYRIGHT" ] || return 0
  own_lists
  mkdir -p "$cache/download"
  for version in $(apt_versions source | sort -rV) none; do
    [ "$version" != none ] || missing "PostgreSQL 15's source" "apt-get source postgresql-15 found no version that downloads"
    (cd "$cache/download" && own_apt source --download-only "postgresql-15=$version" >/dev/null 2>&1) && break
    say "postgresql-15 $version does not download; trying an older one"
  done
  say "sources of postgresql-15 $version"
  rm -rf "$cache/source" && mkdir "$cache/source"
  tar xjf "$cache/download/postgresql-15_${version%-*}.orig.tar.bz2" -C "$cache/source" --strip-components=1
}
