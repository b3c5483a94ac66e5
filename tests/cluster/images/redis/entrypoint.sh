case "$1" in
  -*) exec redis-server "$@" ;;
  *) exec "$@" ;;
esac
